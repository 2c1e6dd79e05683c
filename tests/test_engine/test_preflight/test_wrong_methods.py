"""A wrong method is refused before step 0 is trained, not hours later."""

import math

import pytest

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.registry import HOOKS, MODELS
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.utils.values import check_number, check_sizes

KD = dict(type='KnowledgeDistillationLoss')


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='KnowledgeDistillationLoss', loss_weight=-1.0), 'loss_weight must be a number'),
        (dict(type='KnowledgeDistillationLoss', alpha=0.0), 'alpha must be a number, above 0'),
        (dict(type='UnbiasedKnowledgeDistillationLoss', loss_weight='10'), "got '10'"),
        (dict(type='UnbiasedKnowledgeDistillationLoss', alpha=-1), 'alpha'),
        (dict(type='SigmoidDistillationLoss', loss_weight=math.nan), 'got nan'),
        (dict(type='DenseKnowledgeDistillationLoss', loss_weight=None), 'loss_weight'),
        (dict(type='MatchingDistillationLoss', loss_weight=-1), 'loss_weight'),
        (dict(type='FeatureDistillationLoss', loss_weight=-100.0), 'loss_weight'),
        (dict(type='PixelCrossEntropyLoss', loss_weight=-1.0), 'loss_weight'),
        (dict(type='UnbiasedCrossEntropyLoss', loss_weight=True), 'loss_weight'),
        (dict(type='SigmoidCrossEntropyLoss', loss_weight=math.inf), 'loss_weight'),
        (dict(type='PseudoLabelCrossEntropyLoss', min_factor=2.0), 'min_factor.*1 at most'),
        (dict(type='PseudoLabelCrossEntropyLoss', factor_without_background=-1.0), 'background'),
        (dict(type='LocalPODDistiller', factor=-0.01), 'factor must be a number, 0 or more'),
        (dict(type='LocalPODDistiller', scales=[1, 0]), 'scales must be a whole number, 1 or more'),
        (dict(type='LocalPODDistiller', scales=4), 'scales must be a list'),
        (dict(type='PooledCubeDistiller', last_factor='low'), 'last_factor'),
        (dict(type='PooledCubeDistiller', sizes=[]), 'sizes must be a list'),
        (dict(type='PooledCubeDistiller', sizes=[4.5]), 'got 4.5'),
        (
            dict(type='FeatureDistiller', loss=dict(type='FeatureDistillationLoss'), stage='last'),
            "stage must be a whole number or 'embedding'",
        ),
        (dict(type='LogitDistiller', loss=dict(type='PixelCrossEntropyLoss')), 'loss_decode'),
        (dict(type='LogitDistiller', loss=dict(type='mmengine.ReLU')), 'no loss_name'),
        (dict(type='M2KDDistiller', loss=dict(type='UnbiasedCrossEntropyLoss')), 'loss_decode'),
        (dict(type='DFDRegulariser', loss_weight=-1.0), 'loss_weight'),
        (dict(type='VDFDRegulariser', loss_weight=-1.0), 'loss_weight'),
    ],
)
def test_wrong_values_of_parts(config, message):
    with pytest.raises(InputError, match=message) as caught:
        MODELS.build(config)
    assert config['type'] in str(caught.value) or 'Distiller' in config['type']


def test_wrong_values_of_hooks():
    with pytest.raises(InputError, match='base must be a number'):
        HOOKS.build(dict(type='PseudoLabelThresholdsHook', base=-0.1))


def test_numbers_within_their_range_pass():
    for value in (0, 0.0, 3, 1e9):
        check_number(None, 'x', value)
    check_number(None, 'x', 1, most=1)
    check_sizes(None, 'x', (1, 2))


@pytest.mark.parametrize(
    ('method', 'changes', 'message'),
    [
        (
            'mib',
            {'method.loss_decode': dict(_delete_=True, **KD)},
            'decode_head.loss_decode: KnowledgeDistillationLoss compares student with teacher',
        ),
        ('lwf', {'method.distillers.0.loss.type': 'PixelCrossEntropyLoss'}, "unexpected.*'alpha'"),
        ('ilt', {'method.distillers.1.stage': 7}, 'stage 7 is not among the'),
        (
            'plop',
            {'method.custom_hooks': []},
            r'PseudoLabelThresholdsHook only: add .* to method\.custom_hooks',
        ),
        ('dfd', {'method.custom_hooks': []}, 'DFDRegulariser works with a VDFDHook only'),
        (
            'vdfd_plain',
            {'method.custom_hooks.0.parts': ['backbone', 'neck']},
            "parts has 'neck', which the network does not have; there is backbone, decode_head",
        ),
        (
            'vdfd_plain',
            {'method.network_change': dict(type='ParallelBranches')},
            r'gradients of backbone\.layer1\.0\.bn1\.bias .*network_change replaces',
        ),
        ('m2kd', {'method.teachers': None}, r"method\.teachers='all'"),
        ('dkd', {'method.distillers.0.loss.pool': 'pairs'}, "unknown pool 'pairs'"),
        ('rcil', {'method.distillers.1.factor': -1.0}, 'PooledCubeDistiller: factor'),
    ],
)
def test_walks_of_wrong_methods_are_refused(data_root, tmp_path, method, changes, message):
    with pytest.raises(InputError, match=message):
        WalkRunner(tiny_config(data_root, method, **changes), tmp_path / 'walk').prepare()
    assert not list(tmp_path.glob('walk/journal.json')) + list(tmp_path.glob('walk/step_*'))
