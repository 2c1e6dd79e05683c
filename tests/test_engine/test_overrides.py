import pytest
from mmengine.config import Config

from mmseg_cil.engine.overrides import apply_overrides, overrides_of_step, scale_schedules
from mmseg_cil.errors import InputError


def config():
    return Config(dict(
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=100),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        param_scheduler=[
            dict(type='LinearLR', by_epoch=False, begin=0, end=10),
            dict(type='PolyLR', by_epoch=False, begin=10, end=100),
        ]))


def test_an_index_beats_later_and_later_spares_step_0():
    overrides = {0: dict(lr=1.0), 'later': dict(lr=0.1, max_iters=5), '2': dict(lr=0.2)}
    assert overrides_of_step(overrides, 0) == {'lr': 1.0}
    assert overrides_of_step(overrides, 1) == {'lr': 0.1, 'max_iters': 5}
    assert overrides_of_step(overrides, 2) == {'lr': 0.2, 'max_iters': 5}


def test_schedules_keep_their_shape_when_the_length_changes():
    cfg = config()
    assert apply_overrides(cfg, {'max_iters': 50, 'lr': 0.5}, images=10, global_batch=2) == 50
    assert cfg.train_cfg.max_iters == 50 and cfg.optim_wrapper.optimizer.lr == 0.5
    assert [(one['begin'], one['end']) for one in cfg.param_scheduler] == [(0, 5), (5, 50)]


@pytest.mark.parametrize(('images', 'expected'), [(100, 3 * 8), (12, 3), (5, 3)])
def test_epochs_count_full_batches_and_at_least_one(images, expected):
    assert apply_overrides(config(), {'max_epochs': 3}, images, global_batch=12) == expected


def test_any_dotted_key_of_the_config_can_differ_by_step():
    cfg = config()
    apply_overrides(cfg, {'optim_wrapper.optimizer.weight_decay': 0.5}, 10, 2)
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.5
    assert cfg.train_cfg.max_iters == 100


def test_wrong_overrides_say_what_is_wrong():
    with pytest.raises(InputError, match="'soon'"):
        overrides_of_step({'soon': dict(lr=1)}, 1)
    with pytest.raises(InputError, match='both max_iters and max_epochs'):
        apply_overrides(config(), {'max_iters': 1, 'max_epochs': 1}, 10, 2)
    with pytest.raises(InputError, match='by_epoch=False'):
        scale_schedules([dict(type='PolyLR')], 2.0)
    cfg = config()
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
    with pytest.raises(InputError, match='no max_iters'):
        apply_overrides(cfg, {}, 10, 2)
