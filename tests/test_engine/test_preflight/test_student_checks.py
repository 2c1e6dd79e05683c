"""Forms of the student that cannot train are refused before the first iteration."""

import pytest

from mmseg_cil.engine.record.fingerprint import training_fingerprints
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_config


@pytest.mark.parametrize(
    ('method', 'changes', 'message'),
    [
        ('mib', {'channels_last': 'yes'}, 'channels_last is .*use True or False'),
        ('mib', {'compile': dict(backnd='eager')}, "did you mean 'backend'"),
        ('mib', {'compile': dict(backend='no_such')}, 'does not work here'),
        ('mib', {'activation_checkpointing': ['backbon']}, "names 'backbon'"),
        ('mib', {'activation_checkpointing': 3}, 'must be a list of names'),
        (
            'mib',
            {'compile': dict(backend='eager'), 'model.backbone.with_cp': True},
            'leave one of them out',
        ),
        ('vdfd_ssl', {'activation_checkpointing': ['decode_head']}, 'method.self_supervision'),
        ('mib', {'optim_wrapper.accumulative_counts': 0}, 'must be a whole number, 1 or more'),
        ('mib', {'optim_wrapper.optimizer.fused': True, 'optim_wrapper.optimizer.foreach': True},
         'cannot be .* together'),
        ('mib', {'channels_lst': True}, "did you mean 'channels_last'"),
    ],
)  # fmt: skip
def test_wrong_forms_are_told(method, changes, message, data_root, tmp_path):
    cfg = tiny_config(data_root, method, **changes)
    with pytest.raises(InputError, match=message):
        WalkRunner(cfg, tmp_path / 'walk').prepare()
    assert not (tmp_path / 'walk').exists()


def test_what_rounds_otherwise_is_another_walk_and_what_does_not_is_the_same(data_root, tmp_path):
    runner = WalkRunner(tiny_config(data_root), tmp_path / 'walk').prepare()
    walk = runner.walk

    def prints(**changes):
        cfg = tiny_config(data_root, **changes)
        return training_fingerprints(cfg, walk.protocol, walk.prints.train, 1)

    plain = prints()
    assert prints(channels_last=False, compile=False) == plain
    assert prints(activation_checkpointing=['backbone']) == plain
    for changes in (dict(channels_last=True), dict(compile=True)):
        assert {key for key, value in prints(**changes).items() if value != plain[key]} == {
            'schedule'
        }
