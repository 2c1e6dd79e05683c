"""Walks with REMINDER: that its loss and prototypes are there, and what every method does."""

import math

import pytest
import torch

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.methods.reminder.prototypes import Prototypes
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import logged, seasons


@pytest.fixture(scope='module')
def walked(data_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('reminder')
    WalkRunner(tiny_config(data_root, 'reminder'), folder, steps='0-1').run()
    return folder


def test_a_walk_has_the_losses_of_plop_and_its_own(walked):
    lines = logged(walked, 1)
    named = {name for name in lines[-1] if name.startswith(('decode.loss', 'distill.'))}
    assert named == {'decode.loss_plop', 'distill.loss_pod', 'distill.loss_csw'}
    assert all(math.isfinite(line['loss']) for line in lines)
    assert any(line['distill.loss_csw'] > 0 for line in lines)
    assert not any('distill' in name for name in logged(walked, 0)[-1])


def test_each_step_keeps_the_prototypes_of_its_own_classes(walked):
    first, second = (
        Prototypes.load(walked / f'step_{step:02d}/reminder_prototypes.pth')[0] for step in range(2)
    )
    assert first.classes == (0, 1, 2) and second.classes == (3,)
    for found in (first, second):
        assert (found.groups > 0).all() and (found.vectors.norm(dim=1) > 0).all()
        assert torch.isfinite(found.vectors).all()


def test_a_walk_by_domain_has_nothing_new_and_keeps_no_prototypes(data_root, tmp_path):
    cfg = tiny_config(data_root, 'reminder')
    cfg.protocol = seasons(['early', 'late'], ['last'])
    WalkRunner(cfg, tmp_path).run()
    assert not list(tmp_path.glob('*/reminder_prototypes.pth'))
    assert not any('csw' in name for name in logged(tmp_path, 1)[-1])


@pytest.mark.walk
def test_a_walk_without_the_hook_is_refused_before_training(data_root, tmp_path):
    cfg = tiny_config(data_root, 'reminder')
    cfg.method.custom_hooks = cfg.method.custom_hooks[:1]
    with pytest.raises(InputError, match=r"add dict\(type='ReminderPrototypesHook'\)"):
        WalkRunner(cfg, tmp_path).prepare()


@pytest.mark.walk
def test_a_rehearsed_walk_has_stand_ins_for_its_prototypes(data_root, tmp_path):
    WalkRunner(tiny_config(data_root, 'reminder', rehearsal=True), tmp_path).prepare()


@pytest.mark.slow
@pytest.mark.walk
def test_it_does_what_every_method_does(tmp_path):
    check_method('reminder', tmp_path)


@pytest.mark.slow
def test_a_first_step_of_another_method_gets_its_prototypes_afterwards(data_root, tmp_path):
    WalkRunner(tiny_config(data_root, 'plop'), tmp_path / 'plop', steps='0').run()
    cfg = tiny_config(data_root, 'reminder')
    WalkRunner(cfg, tmp_path / 'taken', start_from=str(tmp_path / 'plop'), steps='0-1').run()
    found, _ = Prototypes.load(tmp_path / 'taken/step_00/reminder_prototypes.pth')
    assert found.classes == (0, 1, 2)
