"""Settings in which two configs differ."""

from mmseg_cil.engine.config.comparison import differences


def test_settings_that_differ_are_named_by_their_keys():
    before = dict(method=dict(name='mib'), train_dataloader=dict(batch_size=4))
    now = dict(method=dict(name='plop'), train_dataloader=dict(batch_size=4), seed=1)
    assert differences(before, now) == ['method.name', 'seed']


def test_variables_of_a_file_matter_by_their_uses_alone():
    before = dict(_rate=0.1, optimizer=dict(lr=0.1))
    assert differences(before, dict(optimizer=dict(lr=0.1), _other=dict(a=1))) == []
    assert differences(before, dict(_rate=0.2, optimizer=dict(lr=0.2))) == ['optimizer.lr']


def test_what_neither_weights_nor_scores_depend_on_is_left_out():
    before = dict(work_dir='a', train_dataloader=dict(num_workers=2))
    assert differences(before, dict(work_dir='b', train_dataloader=dict(num_workers=8))) == []
