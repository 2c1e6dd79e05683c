import pytest
from mmengine.config import Config

from mmseg_cil.engine.config.step_overrides import apply_overrides, overrides_of_step
from mmseg_cil.errors import InputError


def config():
    return Config(
        dict(
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=100),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=False, begin=0, end=10),
                dict(type='PolyLR', by_epoch=False, begin=10, end=100),
            ],
        )
    )


def test_an_index_beats_later_and_later_spares_step_0():
    overrides = {0: dict(lr=1.0), 'later': dict(lr=0.1, max_iters=5), '2': dict(lr=0.2)}
    assert overrides_of_step(overrides, 0) == {'lr': 1.0}
    assert overrides_of_step(overrides, 1) == {'lr': 0.1, 'max_iters': 5}
    assert overrides_of_step(overrides, 2) == {'lr': 0.2, 'max_iters': 5}


def test_the_first_step_that_trains_takes_the_entry_of_step_0():
    overrides = {0: dict(lr=1.0, max_iters=9), 'later': dict(lr=0.1)}
    assert overrides_of_step(overrides, 1, first=1) == {'lr': 1.0, 'max_iters': 9}
    assert overrides_of_step(overrides, 2, first=1) == {'lr': 0.1}
    overrides[1] = dict(max_iters=3)
    assert overrides_of_step(overrides, 1, first=1) == {'lr': 0.1, 'max_iters': 3}
    assert overrides_of_step(None, 1, first=1) == {}


def test_schedules_keep_their_shape_when_the_length_changes():
    cfg = config()
    assert apply_overrides(cfg, {'max_iters': 50, 'lr': 0.5}, images=10, global_batch=2) == 50
    assert cfg.train_cfg.max_iters == 50 and cfg.optim_wrapper.optimizer.lr == 0.5
    assert [(schedule['begin'], schedule['end']) for schedule in cfg.param_scheduler] == [
        (0, 5),
        (5, 50),
    ]


@pytest.mark.parametrize(('images', 'expected'), [(100, 3 * 8), (12, 3), (5, 3)])
def test_epochs_count_full_batches_and_at_least_one(images, expected):
    assert apply_overrides(config(), {'max_epochs': 3}, images, global_batch=12) == expected


def test_any_dotted_key_of_the_config_can_differ_by_step():
    cfg = config()
    apply_overrides(cfg, {'optim_wrapper.optimizer.weight_decay': 0.5}, 10, 2)
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.5
    assert cfg.train_cfg.max_iters == 100


def test_a_length_may_be_a_dotted_key_too():
    cfg = config()
    assert apply_overrides(cfg, {'train_cfg.max_iters': 50}, 10, 2) == 50
    assert [(schedule['begin'], schedule['end']) for schedule in cfg.param_scheduler] == [
        (0, 5),
        (5, 50),
    ]


def test_schedules_of_an_override_are_not_stretched_again():
    own = [dict(type='CosineAnnealingLR', by_epoch=False, T_max=30, begin=0, end=30)]
    cfg = config()
    apply_overrides(cfg, {'max_iters': 30, 'param_scheduler': own}, 10, 2)
    assert [dict(schedule) for schedule in cfg.param_scheduler] == own
    cfg = config()
    apply_overrides(
        cfg, {'max_iters': 5, 'param_scheduler.0.end': 3, 'param_scheduler.1.begin': 3}, 10, 2
    )
    assert [(schedule['begin'], schedule['end']) for schedule in cfg.param_scheduler] == [
        (0, 3),
        (3, 5),
    ]
    cfg = config()
    apply_overrides(cfg, {'max_iters': 5, 'param_scheduler': None}, 10, 2)
    assert cfg.param_scheduler is None


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [(3, 'step_overrides is 3'), ({'soon': dict(lr=1)}, "'soon'"), ({1: 0.1}, '1: 0.1')],
)
def test_wrong_entries_say_what_is_wrong(overrides, message):
    with pytest.raises(InputError, match=message):
        overrides_of_step(overrides, 1)


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'max_iters': 1, 'max_epochs': 1}, 'both max_iters and max_epochs'),
        ({'max_iters': 'ten'}, "max_iters is 'ten'"),
        ({'max_epochs': 1.5}, 'max_epochs is 1.5'),
        ({'lr': 'low'}, "lr is 'low'"),
        ({'param_scheduler.7.end': 3}, 'param_scheduler.7.end'),
    ],
)
def test_wrong_overrides_say_what_is_wrong(overrides, message):
    with pytest.raises(InputError, match=message):
        apply_overrides(config(), overrides, 10, 2)


def test_training_by_epochs_is_refused():
    cfg = config()
    cfg.param_scheduler = [dict(type='PolyLR')]
    with pytest.raises(InputError, match='by_epoch=False'):
        apply_overrides(cfg, {}, 10, 2)
    cfg = config()
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
    with pytest.raises(InputError, match='no max_iters'):
        apply_overrides(cfg, {}, 10, 2)
