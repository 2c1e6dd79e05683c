"""Settings of the wrong kind, refused by name before anything is read."""

import pytest
from mmengine.config import Config

from mmseg_cil.engine.preflight.values import check_mappings
from mmseg_cil.errors import InputError


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('randomness', (1,)),
        ('env_cfg', 'cudnn'),
        ('env_cfg.mp_cfg', 3),
        ('default_hooks', ['logger']),
        ('step_overrides', [dict(lr=1)]),
        ('test_dataloader', 4),
        ('visualizer', 'SegLocalVisualizer'),
        ('model.backbone', 'ResNet'),
        ('optim_wrapper.optimizer', 'SGD'),
    ],
)
def test_settings_with_settings_of_their_own_are_dictionaries(key, value):
    cfg = Config(dict(env_cfg=dict(), model=dict(), optim_wrapper=dict(), test_dataloader=dict()))
    check_mappings(cfg)
    cfg.merge_from_dict({key: value}) if not isinstance(value, list) else cfg.update({key: value})
    with pytest.raises(InputError, match=rf'^{key} is .*dict'):
        check_mappings(cfg)


def test_what_is_left_out_or_none_is_right():
    check_mappings(Config(dict(randomness=None, env_cfg=dict(mp_cfg=None), visualizer=None)))
