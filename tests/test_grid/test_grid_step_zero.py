"""Methods whose step 0 is the same, and settings that make it another."""

import copy

import pytest

from mmseg_cil.grid.checks import look_at
from mmseg_cil.grid.places import Places
from mmseg_cil.grid.step_zero import differing, step_zero_of
from mmseg_cil.testing.tiny import tiny_config


@pytest.fixture(scope='module')
def described(data_root, tmp_path_factory):
    """Return the settings on which step 0 of a method depends; look at each method once."""
    known = {}

    def describe(method, **changes):
        key = (method, repr(changes))
        if key not in known:
            cfg = tiny_config(data_root, method)
            # Keys that are no texts are not merged.
            cfg.step_overrides = changes.pop('step_overrides', cfg.step_overrides)
            cfg.merge_from_dict(changes)
            known[key] = step_zero_of(look_at(cfg, Places(tmp_path_factory.mktemp('grid'))))
        return known[key]

    return describe


@pytest.mark.parametrize('method', ['mib', 'plop', 'vdfd', 'ilt', 'mib_ewf', 'mib_awt', 'mib_nest'])
def test_cross_entropy_in_all_its_forms_is_one_step_0(described, method):
    assert differing(described('finetune'), described(method)) == []


@pytest.mark.parametrize(
    ('method', 'what'), [('lwf_mc', ['losses']), ('rcil', ['network in training'])]
)
def test_other_losses_and_networks_are_another(described, method, what):
    assert differing(described('finetune'), described(method)) == what


@pytest.mark.parametrize(
    ('changes', 'what'),
    [
        ({'step_overrides.later.lr': 0.5}, []),
        ({'method.freezing': dict(norm_statistics=['decode_head'])}, []),
        ({'step_overrides.0.lr': 0.5}, ['schedule']),
        ({'optim_wrapper.optimizer.weight_decay': 0.3}, ['schedule']),
        ({'global_batch_size': 8}, ['schedule', 'training data']),
        ({'model.decode_head.channels': 6}, ['network']),
        ({'custom_hooks': [dict(type='EMAHook')]}, ['hooks']),
        ({'method.loss_decode.loss_weight': 2.0}, ['losses']),
    ],
)
def test_what_step_0_depends_on_makes_a_difference(described, changes, what):
    overrides = {0: dict(max_iters=6), 'later': dict(lr=0.02, max_iters=4)}
    rest = {}
    for key, value in copy.deepcopy(changes).items():
        names = key.split('.')
        if names[0] == 'step_overrides':
            overrides[int(names[1]) if names[1].isdigit() else names[1]][names[2]] = value
        else:
            rest[key] = value
    found = described('mib', step_overrides=overrides, **rest)
    assert differing(described('mib'), found) == what
