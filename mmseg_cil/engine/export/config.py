"""Writing a step's config for MMSegmentation's own tools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.method import find_method
from mmseg_cil.engine.config.step_evaluation import evaluators_of, half_precision
from mmseg_cil.engine.data import dataset_configs, dataset_of_step, first_value
from mmseg_cil.engine.export.checkpoint import CONFIG_NAME
from mmseg_cil.engine.export.own_parts import with_own_parts
from mmseg_cil.engine.export.parts import (
    own_imports,
    plain_model,
    plain_pipelines,
    plain_visualizer,
)
from mmseg_cil.engine.export.test_set import quote_folder, write_test_set
from mmseg_cil.engine.walk import Walk
from mmseg_cil.registry import DATASETS
from mmseg_cil.utils.atomic import write_text
from mmseg_cil.utils.config_text import config_text


def export_config(walk: Walk, step: int, cfg: Config, folder: Path) -> None:
    """Write a step's ``config.py`` for MMSegmentation's own tools, and its list of test images.

    The network, the pipelines and the visualizer are those of the user's config, without
    anything of this package. MMSegmentation's ``tools/test.py`` then gives the walk's figures.
    Where this is impossible, comments at the top of the file say so.

    Args:
        walk: The walk.
        step: The step.
        cfg: The user's config with the overrides of the step.
        folder: Folder of the step.
    """
    classes = walk.seen_names(step)
    _, test = dataset_configs(cfg)
    view = DATASETS.build(
        {
            **dataset_of_step(cfg, step, 'test', str(walk.work_dir), walk.protocol.pools_splits),
            'skip_empty': True,
        }
    )
    model, ours = plain_model(cfg.model.to_dict(), len(classes))
    pipelines, notes = plain_pipelines(cfg, list(first_value(test, 'pipeline') or []), bool(ours))
    if ours:
        notes.insert(
            0,
            'The network has parts that MMSegmentation lacks, so mmseg_cil must be '
            f'installed: {", ".join(ours)}.',
        )
    dataset, lost = write_test_set(view, folder, first_value(test, 'data_root'))
    notes += notes_on_scores(walk, step, view, lost)
    asked = evaluators_of(cfg)
    visualizer, code = plain_visualizer(cfg, dataset['metainfo'])
    plain = dict(
        default_scope='mmseg',
        model=model,
        **pipelines,
        test_dataloader=dict(
            batch_size=1,
            num_workers=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(dataset, pipeline=pipelines['test_pipeline']),
        ),
        test_evaluator=dict(
            type='IoUMetric',
            iou_metrics=list(asked.iou_metrics),
            **({'beta': asked.beta} if asked.beta != 1 else {}),
        ),
        test_cfg=dict(type='TestLoop', **half_precision(cfg)),
        default_hooks=dict(visualization=dict(type='SegVisualizationHook')),
        visualizer=visualizer,
        log_processor=dict(by_epoch=False),
        **own_imports(cfg),
    )
    write_text(folder / CONFIG_NAME, _text(walk, step, with_own_parts(plain), notes) + code)


def notes_on_scores(walk: Walk, step: int, view: Any, lost: list[str]) -> list[str]:
    """Return why MMSegmentation's scores of a step differ from the walk's, one sentence each.

    Args:
        walk: The walk.
        step: The step.
        view: View of the step's test images.
        lost: Keys of the user's dataset that the list of test images lacks.
    """
    notes = []
    taxonomy, policy = walk.protocol.taxonomy, walk.protocol.policy
    if not len(view):
        return ['No test image shows a class of this step, so there is nothing to score.']
    if taxonomy.has_background and not policy.background_in_means:
        notes.append(
            'mIoU here counts the background, which metrics.json calls '
            'mIoU_with_background: its mIoU leaves the background out.'
        )
    # The table is in the order of the test dataset's own ids.
    table = view.protocol.test_table(step)
    shown = {int(table[mask_id]) for mask_id in view.presence().any(axis=0).nonzero()[0]}
    if view.data.pipelines_differ:
        notes.append(
            'The test images are of several data sets whose pipelines differ; here all have that '
            'of the first, so that figures may differ.'
        )
    absent = [name for label, name in enumerate(walk.seen_names(step)) if label not in shown]
    if absent:
        notes.append(
            f'No test image shows {", ".join(absent)}: metrics.json leaves such a class '
            'out, MMSegmentation counts it as 0 where it is predicted.'
        )
    rule = find_method(walk.cfg, walk.protocol.name).prediction
    if rule:
        notes.append(
            f'The walk predicts by {rule["type"]}, MMSegmentation the class of the greatest '
            'output: the figures differ.'
        )
    if lost:
        notes.append(f'The list of test images lacks what the dataset says as {", ".join(lost)}.')
    return notes


def _text(walk: Walk, step: int, plain: Mapping[str, Any], notes: list[str]) -> str:
    head = [
        f'Step {step} of {walk.protocol.name} for MMSegmentation: '
        'tools/test.py config.py checkpoint.pth scores it as the walk did.',
        *notes,
    ]
    lines = ''.join(f'# {" ".join(line.split())}\n' for line in head)
    return f'{lines}\n{quote_folder(config_text(Config(dict(plain))))}'
