"""Every method composes with every protocol: the config loads and its networks are built."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

from mmseg_cil.engine.config.compose import BASES, compose
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.config.step_config import StepInputs, derive_step_config
from mmseg_cil.engine.data import first_value
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import NAMED, build_protocol
from mmseg_cil.registry import DATASETS, MODELS

METHODS = sorted(path.stem for path in (BASES / 'methods').glob('*.py'))
FILES = [path.stem for path in (BASES / 'protocols').glob('*.py')]
PROTOCOLS = sorted((*NAMED, 'embedded_11-5', *FILES))
# A method sees a protocol's kind, its background and its number of steps and classes. Each kind
# meets every method (variants of one meet two), and every protocol meets two methods, whenever the
# tests run; all the other pairs are run on request.
KINDS = (
    'ade20k_100-50',
    'cityscapes_14-1',
    'cityscapes_joint',
    'embedded_11-5',
    'voc_1-1',
    'voc_joint',
    'voc_real_years',
)
OF_VARIANTS = ('ade20k_100-50', 'voc_1-1')
MEET_ALL = ('mib', 'vdfd')
# Beginnings of methods that refuse walks by domain and classes without a background.
OF_FOREGROUND = ('dkd_decomposed', 'star')


def runs_always(method, protocol):
    """Return whether a pair meets whenever the tests run."""
    kinds = OF_VARIANTS if '_' in method else KINDS
    return protocol in kinds or method in MEET_ALL


PAIRS = [
    pytest.param(
        method,
        protocol,
        marks=() if runs_always(method, protocol) else pytest.mark.slow,
    )
    for method in METHODS
    for protocol in PROTOCOLS
]


@pytest.fixture(scope='module')
def composed():
    """Composes each protocol once, with a small network; later calls exchange the method."""
    kept = {}

    def of(method, protocol):
        if protocol not in kept:
            kept[protocol] = compose(
                dict(method='finetune', protocol=protocol, model='deeplabv3_r18_os16')
            )
        return compose(dict(method=method), kept[protocol])

    return of


def networks(cfg, steps):
    """The networks of some steps; shapes are all that is looked at, nothing is allocated."""
    init_default_scope('mmseg_cil')
    dataset = first_value(cfg.train_dataloader.dataset, 'type')
    protocol = build_protocol(
        cfg.protocol, DATASETS.get(dataset).METAINFO['classes'], dataset == 'ADE20KDataset'
    )
    for step in steps(protocol):
        seen = len(protocol.steps[max(0, step - 1)].seen)
        snapshot = dict(checkpoint='x.pth', num_classes=seen) if step else None
        inputs = StepInputs(snapshot, snapshot, [1000] * len(protocol.steps))
        config = derive_step_config(cfg, protocol, step, inputs, 'work_dirs/x')
        with torch.device('meta'):
            yield protocol, step, MODELS.build(config.model)


def has_row_to_spare(cfg):
    """Whether a protocol adds classes to a background."""
    dataset = first_value(cfg.train_dataloader.dataset, 'type')
    protocol = build_protocol(
        cfg.protocol, DATASETS.get(dataset).METAINFO['classes'], dataset == 'ADE20KDataset'
    )
    return protocol.kind != 'domain' and protocol.taxonomy.has_background


def check(cfg, steps):
    if cfg.method.name.startswith(OF_FOREGROUND) and not has_row_to_spare(cfg):
        with pytest.raises(InputError, match=r'no background|a walk by domain'):
            list(networks(cfg, steps))
        return
    for protocol, step, network in networks(cfg, steps):
        seen = len(protocol.steps[step].seen)
        assert network.decode_head.conv_seg.out_channels == seen == network.step.num_seen
        distillers = method_of(cfg, protocol.name).get('distillers') or []
        assert len(network.distillers) == (len(distillers) if step else 0)


def test_kinds_are_protocols_that_there_are():
    assert set(KINDS) <= set(PROTOCOLS)
    assert set(MEET_ALL) <= set(METHODS)


@pytest.mark.parametrize(('method', 'protocol'), PAIRS)
def test_method_and_protocol_compose_and_build(composed, method, protocol):
    cfg = composed(method, protocol)
    assert cfg.protocol.name.startswith(protocol.split('_')[0])
    check(cfg, lambda built: range(min(2, len(built.steps))))


@pytest.mark.parametrize('protocol', ['voc_15-1', 'cityscapes_domain_11-5'])
@pytest.mark.parametrize(
    'method',
    [pytest.param(m, marks=() if m in MEET_ALL else pytest.mark.slow) for m in METHODS],
)
def test_the_network_of_the_papers_is_built_to_the_last_step(method, protocol):
    cfg = compose(dict(method=method, protocol=protocol))
    assert Path(cfg.filename).stem.startswith(f'{method}_deeplabv3_r101-d16')
    check(cfg, lambda built: [0, len(built.steps) - 1])
