"""Parts of a user's config in the form that MMSegmentation reads without this package."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.visualization import SegLocalVisualizer

from mmseg_cil import registry
from mmseg_cil.engine.config.type_names import types_in
from mmseg_cil.models.plain import map_heads, plain_model_config

PACKAGE = 'mmseg_cil'

#: Code for the end of a config. Names that begin with two underscores do not become keys of the
#: config, and an import statement would make MMEngine read the file as a pure Python config.
VISUALIZER_CODE = """
# MMSegInferencer takes Cityscapes' classes where it is given none, whatever the checkpoint says.
# MMSegmentation's visualizer, registered anew, falls back on those that it is built with instead.
class __StepVisualizer(__import__('mmseg.visualization', fromlist='*').SegLocalVisualizer):

    def __init__(self, name='visualizer', *args, classes=None, palette=None, **kwargs):
        self.own = (classes, palette)
        super().__init__(name, *args, **kwargs)

    def set_dataset_meta(self, classes=None, palette=None, dataset_name=None):
        if not (classes or palette or dataset_name):
            classes, palette = self.own
        super().set_dataset_meta(classes, palette, dataset_name)


__import__('mmseg.registry', fromlist='*').VISUALIZERS.register_module(
    'SegLocalVisualizer', force=True, module=__StepVisualizer)
"""

#: Packages whose transforms leave masks alone, or change them in place only.
_STOCK = ('mmcv.', 'mmseg.', 'mmengine.')


def class_of(kind: Any, kinds: Registry) -> Any:
    """Return the class that a config's ``type`` names; None where there is no such class."""
    return kinds.get(kind) if isinstance(kind, str) else kind


def is_ours(kind: Any) -> bool:
    """Return whether a class is of this package, which MMSegmentation must not need."""
    return str(getattr(kind, '__module__', '')).split('.')[0] == PACKAGE


def plain_model(model: Mapping[str, Any], num_classes: int) -> tuple[dict[str, Any], list[str]]:
    """Return the config of a step's network, and the types of this package that it needs.

    Args:
        model: ``model`` of the user's config.
        num_classes: Number of outputs.
    """

    def never(head: dict) -> dict:
        # MMSegmentation thresholds a single output, which must not remove the only class.
        return {**head, 'threshold': 1.0}

    plain = plain_model_config(model, num_classes)
    if num_classes == 1:
        plain = map_heads(plain, never)
    ours = sorted({kind for kind in types_in(plain) if is_ours(class_of(kind, registry.MODELS))})
    return plain, ours


def plain_pipelines(
    cfg: Config, pipeline: Sequence[Any], with_ours: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return ``test_pipeline`` and the settings for ``tools/test.py --tta``, and notes on them.

    Args:
        cfg: The user's config.
        pipeline: Pipeline of the test dataset.
        with_ours: Whether transforms of this package stay; the package must be installed then.
    """
    dropped: list[str] = []
    whole = _plain_transforms(pipeline, with_ours, dropped)
    flat = [way for transform in whole for way in _first_way(transform)]
    result: dict[str, Any] = dict(test_pipeline=flat)
    notes = _notes_on_labels(flat)
    merged = flat != whole
    further = (
        whole if merged else _plain_transforms(cfg.get('tta_pipeline') or [], with_ours, dropped)
    )
    if further:
        tta_model = cfg.get('tta_model') or dict(type='SegTTAModel')
        result.update(tta_pipeline=further, tta_model=copy.deepcopy(dict(tta_model)))
    if merged:
        notes.append(
            'The walk merges what TestTimeAug makes of an image: tools/test.py does so '
            'with --tta, and scores the first way alone without it.'
        )
    if dropped:
        notes.append(
            f'The walk tests with {", ".join(dict.fromkeys(dropped))} of {PACKAGE} in '
            'the pipeline, which is left out here: the figures differ.'
        )
    return result, notes


def _plain_transforms(pipeline: Sequence[Any], with_ours: bool, dropped: list[str]) -> list[Any]:
    result: list[Any] = []
    for transform in pipeline:
        if isinstance(transform, (list, tuple)):
            result.append(_plain_transforms(transform, with_ours, dropped))
            continue
        own = copy.deepcopy(dict(transform))
        kind = class_of(own.get('type'), registry.TRANSFORMS)
        if is_ours(kind) and not with_ours:
            dropped.append(kind.__name__)
            continue
        if _loads_labels(kind):
            # The list of test images says what the ids of the files mean.
            own.pop('reduce_zero_label', None)
        inner = own.get('transforms')
        if isinstance(inner, (list, tuple)):
            own['transforms'] = _plain_transforms(inner, with_ours, dropped)
        result.append(own)
    return result


def _first_way(transform: Mapping[str, Any]) -> list[Any]:
    if str(transform.get('type')).rpartition('.')[2] != 'TestTimeAug':
        return [transform]
    return [stage[0] for stage in transform.get('transforms') or [] if stage]


def _loads_labels(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, LoadAnnotations)


def _notes_on_labels(pipeline: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return notes on the user's own transforms, which see the labels of the step already."""
    kinds = [class_of(transform.get('type'), registry.TRANSFORMS) for transform in pipeline]
    if not any(map(_loads_labels, kinds)):
        return [
            "No LoadAnnotations of MMSegmentation's reads the masks, so their ids are not "
            "mapped to the step's classes here: the figures differ."
        ]
    start = next(i for i, kind in enumerate(kinds) if _loads_labels(kind))
    own = [
        kind.__name__
        for kind in kinds[start + 1 :]
        if kind is not None and not kind.__module__.startswith(_STOCK)
    ]
    return (
        [
            f"{', '.join(own)} sees the step's labels here, and the ids of the mask files in the "
            'walk: the figures differ where it looks at them.'
        ]
        if own
        else []
    )


def plain_visualizer(cfg: Config, meta: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the config of a visualizer that writes local files only, and the code it needs.

    The visualizer is the user's own where that is of MMSegmentation's kind.

    Args:
        cfg: The user's config.
        meta: ``classes`` and ``palette`` of the step.
    """
    given = cfg.get('visualizer') or {}
    kind = class_of(given.get('type'), registry.VISUALIZERS)
    own = isinstance(kind, type) and issubclass(kind, SegLocalVisualizer) and not is_ours(kind)
    kept = {key: value for key, value in given.items() if key != 'save_dir'} if own else {}
    result: dict[str, Any] = {
        'type': 'SegLocalVisualizer',
        'name': 'visualizer',
        **kept,
        'vis_backends': [dict(type='LocalVisBackend')],
    }
    if not own or kind is SegLocalVisualizer:
        return {**result, 'classes': meta['classes'], 'palette': meta['palette']}, VISUALIZER_CODE
    return result, ''


def own_imports(cfg: Config) -> dict[str, Any]:
    """Return ``custom_imports`` of the user's config without this package's modules, if any."""
    given = dict(cfg.get('custom_imports') or {})
    listed = given.get('imports') or []
    listed = [listed] if isinstance(listed, str) else list(listed)
    kept = [name for name in listed if str(name).split('.')[0] != PACKAGE]
    return {'custom_imports': {**given, 'imports': kept}} if kept else {}
