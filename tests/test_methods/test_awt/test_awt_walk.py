"""AWT in walks: it begins rows once, and does all that every method must do."""

import pytest
import torch

from mmseg_cil.datasets.view import IncrementalDataset
from mmseg_cil.engine.config.compose import compose
from mmseg_cil.engine.config.published import as_published
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.methods.awt import hook as awt_hook
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights, at, killed, seasons


@pytest.fixture
def passes(monkeypatch):
    """The transfers that were made, as the new rows of the decode head after each."""
    made = []
    before = awt_hook.transfer

    def transfer(model, chosen, combine):
        before(model, chosen, combine)
        made.append(model.decode_head.conv_seg.weight[model.step.num_old :].detach().clone())

    monkeypatch.setattr(awt_hook, 'transfer', transfer)
    return made


@pytest.mark.walk
def test_a_killed_step_does_not_begin_its_rows_twice(data_root, tmp_path, passes):
    cfg = tiny_config(data_root, 'mib_awt')
    WalkRunner(cfg, tmp_path / 'whole', steps='0-1').run()
    assert len(passes) == 1
    with killed(at(step=1, iteration=3)):
        WalkRunner(cfg, tmp_path / 'broken', steps='0-1').run()
    assert len(passes) == 2
    WalkRunner(cfg, tmp_path / 'broken', steps='0-1', resume=True).run()
    # Training went on from iteration 2.
    assert len(passes) == 2 and torch.equal(*passes)
    assert_same_weights(tmp_path / 'whole', tmp_path / 'broken', 1)
    # A step that was killed before its first iteration has no state, so it begins anew.
    with killed(at(step=1, iteration=0)):
        WalkRunner(cfg, tmp_path / 'early', steps='0-1').run()
    WalkRunner(cfg, tmp_path / 'early', steps='0-1', resume=True).run()
    assert len(passes) == 4
    assert_same_weights(tmp_path / 'whole', tmp_path / 'early', 1)


@pytest.mark.walk
def test_exemplars_choose_no_channel(data_root, tmp_path, monkeypatch):
    read, kept = [], []
    before = IncrementalDataset.__getitem__
    batches = awt_hook.step_batches

    def watched(runner, max_images):
        dataset = runner.train_dataloader.dataset
        kept.append((len(dataset), dataset.step_indices()))
        with monkeypatch.context() as patch:
            patch.setattr(
                IncrementalDataset,
                '__getitem__',
                lambda self, index: read.append(index) or before(self, index),
            )
            yield from batches(runner, max_images)

    monkeypatch.setattr(awt_hook, 'step_batches', watched)
    cfg = tiny_config(data_root, 'mib_awt')
    cfg.method.memory = dict(budget=4, ratio=0.5)
    WalkRunner(cfg, tmp_path, steps='0-1').run()
    ((size, of_step),) = kept
    # An exemplar that shows the step's class is an image of the step, too.
    assert read == of_step and len(of_step) < size


@pytest.mark.walk
def test_classes_without_background_are_refused_before_training(data_root, tmp_path):
    cfg = tiny_config(data_root, 'mib_awt', rehearsal=True)
    cfg.protocol.background = 'none'
    with pytest.raises(InputError, match=r"use 'random' or 'imprinted'"):
        WalkRunner(cfg, tmp_path).prepare()


@pytest.mark.walk
def test_a_rehearsed_walk_begins_rows_of_stand_ins(data_root, tmp_path, passes):
    cfg = tiny_config(data_root, 'mib_awt', rehearsal=True)
    WalkRunner(cfg, tmp_path).prepare()
    assert len(passes) == 1


@pytest.mark.parametrize(
    ('protocol', 'classes'),
    [
        ('voc_15-5', 'together'),
        ('cityscapes_14-1', 'together'),
        ('ade20k_100-5', 'together'),
        ('ade20k_100-10', 'accumulated'),
    ],
)
def test_the_choice_of_the_official_scripts_is_as_published(protocol, classes):
    cfg = compose(dict(method='mib_awt', protocol=protocol))
    assert cfg.method.classifier_init == dict(type='attributed')
    assert as_published(cfg).method.classifier_init.classes == classes


@pytest.mark.slow
@pytest.mark.walk
def test_it_does_what_every_method_does(tmp_path):
    check_method('mib_awt', tmp_path)


def test_by_domain_no_row_is_new_and_none_is_transferred(passes, data_root, tmp_path):
    cfg = tiny_config(data_root, 'mib_awt')
    cfg.protocol = seasons(['early', 'late'], ['last'])
    WalkRunner(cfg, tmp_path / 'awt').run()
    assert not passes
    cfg = tiny_config(data_root, 'mib')
    cfg.protocol = seasons(['early', 'late'], ['last'])
    WalkRunner(cfg, tmp_path / 'mib').run()
    assert_same_weights(tmp_path / 'awt', tmp_path / 'mib', 0, 1)
