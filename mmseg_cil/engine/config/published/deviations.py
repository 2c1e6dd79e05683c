"""The deviations of a config from the settings that the papers' figures were made with.

The log, the docstrings of the configs and ``docs/published.md`` are all made from one list,
:data:`DEVIATIONS`, so that they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.method import find_method
from mmseg_cil.engine.config.published import method_looks
from mmseg_cil.engine.config.published.frames import Frame, find_frame
from mmseg_cil.engine.data import drops_partial, first_value
from mmseg_cil.protocols import is_by_domain

#: Describes in a few words what a config has in place of the papers' setting; None: the same.
Look = Callable[[Config, Frame], str | None]


@dataclass(frozen=True)
class Deviation:
    """One setting of the papers.

    Attributes:
        name: Name of the setting in a table.
        theirs: Value of the setting in the papers' code.
        source: File of the papers' code that has the setting.
        ours: Function that describes what a config has in place of the setting.
        offered: Whether ``--as-published`` sets the papers' value.
        option: Another way to set the papers' value.
    """

    name: str
    theirs: str
    source: str
    ours: Look
    offered: bool = True
    option: str = ''


def deviations_of(cfg: Config) -> list[tuple[Deviation, str]]:
    """Return every setting in which a config differs, with what the config has in its place.

    Args:
        cfg: Config of a walk, with protocol and method.
    """
    frame = find_frame(str(cfg.method.get('name')), str(cfg.protocol.get('name')))
    found = ((deviation, deviation.ours(cfg, frame)) for deviation in DEVIATIONS)
    return [(deviation, text) for deviation, text in found if text]


def _name(config: Any) -> str:
    kind = config.get('type') if isinstance(config, Mapping) else None
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


def _activation(cfg: Config, frame: Frame) -> str | None:
    slope = cfg.model.backbone.get('negative_slope', 0.01)
    leaky = _name(cfg.model.backbone) == 'LeakyResNet' and slope == 0.01
    return None if leaky else 'ReLU'


def _stem(cfg: Config, frame: Frame) -> str | None:
    if not frame.model.endswith('rcil') or cfg.model.backbone.get('stem_activation') is False:
        return None
    return 'activated stem'


def _dilation(cfg: Config, frame: Frame) -> str | None:
    backbone = cfg.model.backbone
    dilation = (backbone.get('dilations') or [1])[-1]
    contracted = backbone.get('contract_dilation') and dilation > 1
    return f'last stage dilated [{dilation // 2}, {dilation}, {dilation}]' if contracted else None


def _aspp(cfg: Config, frame: Frame) -> str | None:
    head = cfg.model.decode_head
    if _name(head) == 'PaperASPPHead':
        return None
    return 'ASPP fused by 3x3' if _name(head) == 'ASPPHead' else f'another head ({_name(head)})'


def _dropout(cfg: Config, frame: Frame) -> str | None:
    head = cfg.model.decode_head
    ratio = head.get('dropout_ratio', 0.0 if _name(head) == 'PaperASPPHead' else 0.1)
    return f'dropout {ratio:g} before the classifier' if ratio else None


def _depth(cfg: Config, frame: Frame) -> str | None:
    depth = cfg.model.backbone.get('depth')
    resnet = _name(cfg.model.backbone) in ('ResNet', 'LeakyResNet')
    return None if resnet and depth == 101 else f'another backbone ({_name(cfg.model.backbone)})'


def _crop(cfg: Config, frame: Frame) -> str | None:
    pipeline = first_value(cfg.train_dataloader.dataset, 'pipeline') or []
    names = [_name(transform) for transform in pipeline]
    if 'RandomResizedCrop' in names:
        crop = pipeline[names.index('RandomResizedCrop')]
        same = tuple(crop.get('crop_ratio_range', (0.5, 2.0))) == (0.5, 2.0) and crop.get(
            'scale'
        ) in (512, (512, 512), [512, 512])
        return None if same else 'a random resized crop of another size'
    return 'random scale and padded crop' if 'RandomResize' in names else 'another augmentation'


def _geometry(cfg: Config, frame: Frame) -> str | None:
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    names = [
        _name(transform) for transform in first_value(loader.get('dataset') or {}, 'pipeline') or []
    ]
    return None if 'ResizedCenterCrop' in names else 'evaluation on whole images'


def _labels(cfg: Config, frame: Frame) -> str | None:
    preset = cfg.protocol.get('preset', 'default')
    return None if preset == frame.preset else f"preset '{preset}' for '{frame.preset}'"


def _split(cfg: Config, frame: Frame) -> str | None:
    by_city = cfg.protocol.name.startswith('cityscapes_domain')
    split = cfg.protocol.get('split', 'clean')
    return f"the {split} split for 'legacy'" if by_city and split != 'legacy' else None


def _rows(cfg: Config, frame: Frame) -> str | None:
    wanted = frame.changes.get('classifier_init')
    init = find_method(cfg, cfg.protocol.name).classifier_init
    by_domain = is_by_domain(cfg.protocol.name)
    same = not wanted or init == wanted or _name(cfg.model.decode_head) == 'PaperASPPHead'
    return None if same or by_domain else 'new rows of deviation 0.01 and bias 0'


def _rate(cfg: Config, frame: Frame) -> str | None:
    schedules = cfg.get('param_scheduler') or []
    listed = schedules if isinstance(schedules, (list, tuple)) else [schedules]
    names = [_name(entry) for entry in listed]
    if names == ['PaperPolyLR']:
        return None
    return 'a last iteration of rate 0' if names == ['PolyLR'] else 'another learning rate'


def _passes(cfg: Config, frame: Frame) -> str | None:
    return None if drops_partial(cfg) else 'batches over the end of an epoch'


def _norms(cfg: Config, frame: Frame) -> str | None:
    return 'batch norm of torch for InPlace-ABN'


def _weights(cfg: Config, frame: Frame) -> str | None:
    return "torchvision's ImageNet weights"


def _precision(cfg: Config, frame: Frame) -> str | None:
    amp = _name(cfg.optim_wrapper) == 'AmpOptimWrapper'
    if amp == frame.half:
        return "MMEngine's mixed precision for apex" if amp else None
    return 'mixed precision' if amp else 'single precision'


def _code(cfg: Config, frame: Frame) -> str | None:
    return None if frame.code else 'the method itself'


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation('method', 'no official code in this frame is public', '-', _code, offered=False),
    Deviation(
        'norm',
        'InPlace-ABN: scale |weight| + eps, synchronised',
        'segmentation_module.py',
        _norms,
        offered=False,
    ),
    Deviation(
        'first weights',
        'ImageNet weights of InPlace-ABN',
        'segmentation_module.py',
        _weights,
        offered=False,
    ),
    Deviation(
        'backbone',
        'ResNet-101',
        'argparser.py',
        _depth,
        option='the model piece `deeplabv3_r101_paper`',
    ),
    Deviation(
        'activation',
        'leaky ReLU of slope 0.01',
        'segmentation_module.py',
        _activation,
        option='`LeakyResNet`, `act_cfg`',
    ),
    Deviation(
        'stem',
        'not activated (RCIL)',
        'RCIL segmentation_module.py',
        _stem,
        option='`LeakyResNet(stem_activation=False)`',
    ),
    Deviation(
        'dilation',
        'last stage dilated throughout, [2, 2, 2]',
        'models/resnet.py',
        _dilation,
        option='`contract_dilation=False`',
    ),
    Deviation(
        'ASPP',
        'fused by 1x1, the pooled branch added after a 1x1 of its own',
        'modules/deeplab.py',
        _aspp,
        option='`PaperASPPHead`',
    ),
    Deviation(
        'dropout',
        'none before the classifier',
        'modules/deeplab.py',
        _dropout,
        option='`dropout_ratio=0`',
    ),
    Deviation(
        'training crop',
        'a random area of 0.5 to 2.0 of the image, aspect 3/4 to 4/3, resized to 512',
        'run.py, dataset/transform.py',
        _crop,
        option='`RandomResizedCrop`',
    ),
    Deviation(
        'test geometry',
        'short side and centre crop 512, image and label',
        'run.py',
        _geometry,
        option='`ResizedCenterCrop`',
    ),
    Deviation(
        'labels and means',
        "void, unseen classes and background in means as in each paper's code",
        'dataset/voc.py, dataset/ade.py',
        _labels,
        option='`protocol.preset`',
    ),
    Deviation(
        'split by city',
        'images of later training are tested too (leaks)',
        'dataset/cityscapes_domain.py',
        _split,
        option="`protocol.split='legacy'`",
    ),
    Deviation(
        'new rows',
        'as `nn.Conv2d` begins: uniform, deviation 0.036',
        'segmentation_module.py',
        _rows,
        option="`method.classifier_init='conv_default'`",
    ),
    Deviation(
        'learning rate',
        '(1 - i / n) to the power 0.9, above 0 at the end',
        'utils/scheduler.py',
        _rate,
        option='`PaperPolyLR`',
    ),
    Deviation(
        'epochs',
        'the last partial batch is dropped',
        'run.py',
        _passes,
        option='`train_dataloader.sampler.drop_partial=True`',
    ),
    Deviation(
        'precision',
        'apex O1 in the scripts of PLOP and RCIL, O0 in MiB',
        'scripts',
        _precision,
        offered=False,
        option='`--amp`',
    ),
    Deviation(
        'thresholds (PLOP)',
        'median by a sum of bin indices, from random crops; factor 0 without background',
        'PLOP train.py',
        method_looks.thresholds,
        option=method_looks.pieces_named(method_looks.PLOP_FORMS),
    ),
    Deviation(
        'thresholds by process (PLOP)',
        'every process has its own',
        'PLOP train.py',
        method_looks.processes,
        offered=False,
    ),
    Deviation(
        'second merge (RCIL)',
        'trained with eps 0, merged with eps 1e-5',
        'RCIL run.py',
        method_looks.merge,
        option='`method.network_change.eps_again=1e-5`',
    ),
    Deviation(
        'drawn branches (RCIL)',
        'each process draws its own',
        'RCIL modules/residual.py, run.py',
        method_looks.draws,
        option='`method.network_change.draws=process`',
    ),
    Deviation(
        'merged norms (RCIL)',
        'mean 0, deviation 1, scale 1',
        'RCIL run.py',
        method_looks.statistics,
        offered=False,
    ),
    Deviation(
        'contrast (UCD)',
        'scores shifted on one side, interpolated ids, pairs within each process',
        'UCD utils/loss.py',
        method_looks.contrast,
        option='the method piece `mib_ucd_paper`',
    ),
    Deviation(
        'features (SDR)',
        'reshaped across channels, classes of unequal weight, the first class of a batch left out',
        'SDR utils/loss.py, train.py',
        method_looks.representations,
        option='the method piece `sdr_paper`',
    ),
    Deviation(
        'channels (AWT)',
        'one choice for all new classes of a step; on ADE20K mostly by the classes so far',
        'AWT attribute.py, attribute_class.py',
        method_looks.channels,
        option='`method.classifier_init.classes`',
    ),
    Deviation(
        'pre-tuning (NeST)',
        'norm statistics move; drawn biases, scaled to all old ones together; all images',
        'NeST run.py, segmentation_module.py',
        method_looks.pre_tuning,
        option=method_looks.pieces_named(method_looks.NEST_FORMS),
    ),
    Deviation(
        'fusion (EWF)',
        "from the last step's network, so that the shift of the background is taken back in part",
        'EWF run.py',
        method_looks.fusion,
        option=method_looks.pieces_named(method_looks.EWF_FORMS),
    ),
    Deviation(
        'prediction (DFT*)',
        'over the rows of all classes, those of later steps too',
        'RevisitingCSS run.py',
        method_looks.future,
        offered=False,
    ),
)
