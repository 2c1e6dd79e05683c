"""The evaluation of finished steps from their checkpoints, with scores of one kind."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmseg_cil.contracts import network_of
from mmseg_cil.engine import predictions
from mmseg_cil.engine.config.first_step import with_first_step
from mmseg_cil.engine.config.own_data import with_own_data
from mmseg_cil.engine.config.step_visualizer import log_scores
from mmseg_cil.engine.config.type_names import with_type_names
from mmseg_cil.engine.data import dataset_configs, open_view
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.preflight.data import check_data
from mmseg_cil.engine.preflight.numbers import require_finite_settings
from mmseg_cil.engine.record.fingerprint import EVALUATION, evaluation_of, file_hash
from mmseg_cil.engine.record.images import ImagePrints, prints_of
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.verify import check_checkpoint
from mmseg_cil.engine.runner import step_runner
from mmseg_cil.engine.runner.distributed import decided_by_main, main_process_first
from mmseg_cil.engine.runner.scoring import scoring_runner
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.evaluation import walk_metrics
from mmseg_cil.protocols import Protocol
from mmseg_cil.utils.atomic import write_json
from mmseg_cil.utils.confusion_file import NAME as CONFUSION
from mmseg_cil.utils.confusion_file import confusion_content

STEP_METRICS = 'metrics.json'


def open_walk(cfg: Config, work_dir: str | Path, journal: Journal) -> Walk:
    """Open a walk that is only to be evaluated, from the test images and the journal.

    Neither pre-trained weights nor training images are looked for (except where a
    protocol draws its test images from the training list too).

    Raises:
        InputError: The config describes no walk, the test data are missing or
            wrong, or the journal has another number of steps.
    """
    require_finite_settings(cfg)
    cfg = with_own_data(with_first_step(cfg))
    for key in ('protocol', 'model'):
        if not isinstance(cfg.get(key), Mapping):
            raise InputError(
                f'the config has no {key}: give the config that the walk was trained with'
            )
    init_default_scope('mmseg_cil')
    given, cfg = cfg, with_type_names(cfg)
    dataset_configs(cfg)

    protocol, test_images, palette, test_prints = main_process_first(
        functools.partial(_read_test_data, cfg, str(work_dir))
    )
    train_images = (journal.content.get('images') or {}).get('train') or []
    iterations = journal.content.get('iterations') or []
    if not len(protocol.steps) == len(train_images) == len(iterations):
        raise InputError(
            f'{journal.path} records {len(iterations)} steps, the protocol {protocol.name} of the '
            f'config has {len(protocol.steps)}: use the config of the walk'
        )
    recorded = (journal.content.get('data') or {}).get('train') or [None] * len(train_images)
    return Walk(
        cfg,
        protocol,
        Path(work_dir),
        tuple(train_images),
        test_images,
        tuple(iterations),
        palette,
        ImagePrints(tuple(recorded), test_prints),
        given,
    )


def _read_test_data(
    cfg: Config, work_dir: str
) -> tuple[Protocol, tuple[int, ...], dict, tuple[str, ...]]:
    # This view is built but not read: its protocol says whether it pools the splits.
    protocol = open_view(cfg, 'test', work_dir, pools_splits=False).reference
    view = open_view(cfg, 'test', work_dir, protocol.pools_splits)
    check_data(None, view)
    counts = tuple(len(view.images_of_step(step)) for step in range(len(protocol.steps)))
    return protocol, counts, view.palette_by_name(), prints_of(view)


def outdated_steps(walk: Walk, journal: Journal) -> dict[int, str]:
    """Return the finished steps whose scores are missing or of another kind, with the reason.

    Rank 0 decides, so that all processes do the same.
    """
    return decided_by_main(lambda: _outdated(walk, journal))


def _outdated(walk: Walk, journal: Journal) -> dict[int, str]:
    result = {}
    for record in journal.content['steps']:
        step = record['step']
        if record['status'] != 'done':
            continue
        path = step_folder(walk.work_dir, step) / STEP_METRICS
        if read_step_metrics(walk.work_dir, step) is None:
            result[step] = f'{path} is missing or damaged'
        elif record.get('metrics_sha256') not in (None, file_hash(path)):
            result[step] = f'{path} is not the file that {journal.path.name} records'
        elif record.get('evaluation') != evaluation_of(walk, step):
            result[step] = f'step {step} was evaluated with other settings or test images'
    return result


def evaluate_step(
    walk: Walk, journal: Journal, step: int, launcher: str, keep: bool = True
) -> dict[str, Any]:
    """Evaluate a step from its checkpoint and record its scores.

    Args:
        walk: The walk.
        journal: Journal of the walk.
        step: A trained step.
        launcher: MMEngine's launcher.
        keep: Whether scores and predictions are written.

    Returns:
        The step's entry for ``metrics.json``.

    Raises:
        InputError: The checkpoint is missing, was changed, or does not fit the network.
    """
    path = check_checkpoint(journal, step)
    start = time.monotonic()
    with scoring_runner(walk, step, launcher) as runner:
        step_runner.load_weights(runner, str(path))
        result = step_runner.evaluate(runner, has_run=False)
        confusion = _confusion(runner, result)
        if keep:
            log_scores(runner.visualizer, step, result)
            predictions.predict_samples(network_of(runner), walk, step, get_rank() == 0)
    if keep:
        if get_rank() == 0 and confusion is not None:
            write_json(step_folder(walk.work_dir, step) / CONFUSION, confusion)
        record_scores(walk, journal, step, result, time.monotonic() - start)
    return result


def _confusion(runner: Runner, result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of a step's ``confusion.json``; None where no image was scored."""
    matrices = runner.test_loop.evaluator.metrics[0].confusion
    return None if matrices is None else confusion_content(matrices, result['seen'])


def record_scores(
    walk: Walk, journal: Journal, step: int, result: dict[str, Any], seconds: float
) -> None:
    """Write a step's scores and record the step as done."""
    path = step_folder(walk.work_dir, step) / STEP_METRICS
    if get_rank() == 0:
        write_json(path, result)
    journal.update_step(
        step,
        status='done',
        evaluation=evaluation_of(walk, step),
        metrics_sha256=decided_by_main(lambda: file_hash(path)),
        evaluate_seconds=round(seconds, 1),
    )
    if get_world_size() > 1:
        barrier()


def read_step_metrics(work_dir: Path, step: int) -> dict[str, Any] | None:
    """Return the scores in a step's folder; None where they are missing or damaged."""
    try:
        entry = json.loads((step_folder(work_dir, step) / STEP_METRICS).read_text('utf-8'))
    except (OSError, ValueError):
        return None
    return entry if isinstance(entry, dict) and entry.get('step') == step else None


def write_metrics(walk: Walk, journal: Journal) -> dict[str, Any]:
    """Assemble ``metrics.json`` and ``metrics.csv`` from the finished steps.

    The journal's header is updated to the evaluation of these steps.

    Returns:
        The content of ``metrics.json``; empty on other ranks than 0.

    Raises:
        InputError: The scores of a finished step are missing.
    """
    metrics: dict[str, Any] = {}
    if get_rank() == 0:
        metrics = _assembled(walk, journal)
        walk_metrics.write_metrics(walk.work_dir, metrics)
    fingerprints = {**journal.content['fingerprints'], EVALUATION: evaluation_of(walk)}
    if fingerprints != journal.content['fingerprints']:
        data = {**(journal.content.get('data') or {}), 'test': list(walk.prints.test)}
        journal.update_header(
            fingerprints=fingerprints, protocol=walk.protocol.to_dict(), data=data
        )
    return metrics


def _assembled(walk: Walk, journal: Journal) -> dict[str, Any]:
    entries = []
    for record in journal.content['steps']:
        if record['status'] != 'done':
            continue
        step = record['step']
        entry = read_step_metrics(walk.work_dir, step)
        path = step_folder(walk.work_dir, step) / STEP_METRICS
        if entry is None or record.get('metrics_sha256') not in (None, file_hash(path)):
            raise InputError(
                f'the scores of step {step} are missing or were changed: evaluate the '
                f'steps again with mmseg-cil test {walk.work_dir}'
            )
        summaries = {
            name: sub_step['summary']
            for name, sub_step in (record.get('sub_steps') or {}).items()
            if 'summary' in sub_step
        }
        entries.append({**entry, 'sub_steps': summaries} if summaries else entry)
    return walk_metrics.assemble_metrics(
        entries,
        protocol=walk.protocol.name,
        method=journal.content['method']['name'],
        setting=walk.protocol.setting,
        kind=walk.protocol.kind,
        palette=walk.palette,
    )
