"""Walks with PLOP: thresholds, resuming, processes, and steps out of the ordinary."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.dist import get_rank
from torch.utils.data import DataLoader

from mmseg_cil.datasets.pipeline import without_augmentation
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.methods.plop import thresholds_hook as hook_module
from mmseg_cil.methods.plop.thresholds_hook import PseudoLabelThresholdsHook, read_thresholds
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights, at, killed, logged, seasons


def thresholds(work_dir, step):
    return json.loads((work_dir / f'step_{step:02d}' / 'thresholds.json').read_text())


@pytest.fixture(scope='module')
def plop_dir(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('plop')
    WalkRunner(tiny_config(data_root, 'plop'), work_dir).run()
    return work_dir


def test_every_later_step_has_thresholds_of_its_own(plop_dir):
    assert not (plop_dir / 'step_00' / 'thresholds.json').exists()
    for step, classes in ((1, 4), (2, 5)):
        content = thresholds(plop_dir, step)
        assert len(content['thresholds']) == classes
        # The teacher never predicts a class that is new; that class has the least threshold.
        assert content['pixels'][-1] == 0 and content['thresholds'][-1] == pytest.approx(0.001)
        assert sum(content['pixels']) > 0 and max(content['thresholds']) > 0.001


def test_losses_are_those_of_the_method(plop_dir):
    for line in logged(plop_dir, 1):
        parts = [line['decode.loss_plop'], line['aux.loss_plop'], line['distill.loss_pod']]
        assert line['loss'] == pytest.approx(sum(parts), rel=1e-5)
    assert 'distill.loss_pod' not in logged(plop_dir, 0)[0]


def test_a_killed_step_resumes_with_its_thresholds(plop_dir, data_root, tmp_path, monkeypatch):
    cfg = tiny_config(data_root, 'plop')
    with killed(at(step=1, iteration=3)):
        WalkRunner(cfg, tmp_path).run()
    assert (tmp_path / 'step_01' / 'resume.pth').is_file()
    found = thresholds(tmp_path, 1)

    passes = []
    compute = hook_module.teacher_histograms

    def count(model, batches, **options):
        passes.append(model.step.index)
        return compute(model, batches, **options)

    monkeypatch.setattr(hook_module, 'teacher_histograms', count)
    WalkRunner(cfg, tmp_path, resume=True).run()
    assert passes == [2]
    assert thresholds(tmp_path, 1) == found == thresholds(plop_dir, 1)
    assert_same_weights(plop_dir, tmp_path, 1, 2)


def walk_on_a_rank(data_root, start, folder):
    """Step 1, of which every rank saves the thresholds that its losses have."""
    before = PseudoLabelThresholdsHook.before_train

    def keep(self, runner):
        before(self, runner)
        losses = [module for module in runner.model.modules() if hasattr(module, 'set_thresholds')]
        if losses[0].thresholds is not None:
            torch.save([loss.thresholds for loss in losses], f'{folder}/{get_rank()}.pth')

    PseudoLabelThresholdsHook.before_train = keep
    WalkRunner(
        tiny_config(Path(data_root), 'plop'),
        f'{folder}/walk',
        start_from=str(start),
        launcher='pytorch',
        steps='1',
    ).run()


def test_thresholds_are_equal_on_two_ranks_and_those_of_one(plop_dir, data_root, tmp_path):
    in_two_processes(walk_on_a_rank, data_root, plop_dir, tmp_path, log=tmp_path / 'log')
    ranks = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    for first, second in zip(*ranks, strict=True):
        assert torch.equal(first, second)
    assert ranks[0][0].tolist() == thresholds(tmp_path / 'walk', 1)['thresholds']
    assert thresholds(tmp_path / 'walk', 1) == thresholds(plop_dir, 1)


def test_a_batch_of_one_trains(plop_dir, data_root, tmp_path):
    cfg = tiny_config(data_root, 'plop', global_batch_size=1)
    WalkRunner(cfg, tmp_path, start_from=str(plop_dir), steps='1').run()
    assert all(line['loss'] < 100 for line in logged(tmp_path, 1))
    assert thresholds(tmp_path, 1) == thresholds(plop_dir, 1)


def test_a_step_whose_class_never_appears(data_root, tmp_path):
    cfg = tiny_config(data_root, 'plop', skip_empty_steps=True)
    dataset = cfg.train_dataloader.dataset
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.metainfo = dict(
            classes=(*dataset.metainfo.classes[:5], 'unicorn'),
            palette=[*dataset.metainfo.palette[:5], [1, 2, 3]],
        )
    cfg.protocol.steps = [['background', 'red', 'green'], ['unicorn'], ['blue', 'grey']]
    scheduler = WalkRunner(cfg, tmp_path).open()
    scheduler.run()
    assert scheduler.journal.step(1)['iterations'] == 0
    assert not (tmp_path / 'step_01' / 'thresholds.json').exists()
    # The teacher of the last step does not know the class that never came.
    assert scheduler._teacher(2)['num_classes'] == 3
    assert len(thresholds(tmp_path, 2)['thresholds']) == 6
    assert all(line['distill.loss_pod'] > 0 for line in logged(tmp_path, 2))


def test_a_domain_walk_has_no_pseudo_labels(data_root, tmp_path):
    cfg = tiny_config(data_root, 'plop')
    cfg.protocol = seasons(['early'], ['late', 'last'])
    WalkRunner(cfg, tmp_path).run()
    assert not (tmp_path / 'step_01' / 'thresholds.json').exists()
    assert all(line['distill.loss_pod'] >= 0 for line in logged(tmp_path, 1))


def test_only_fitting_files_are_reused(tmp_path):
    path = tmp_path / 'thresholds.json'
    settings = {'base': 0.001, 'median': 'true', 'crops': 'whole'}
    assert read_thresholds(path, settings, 2) is None
    path.write_text(json.dumps({**settings, 'thresholds': [0.1, 0.2]}))
    assert read_thresholds(path, settings, 2) == [0.1, 0.2]
    assert read_thresholds(path, settings, 3) is None
    assert read_thresholds(path, {**settings, 'median': 'official'}, 2) is None
    assert read_thresholds(path, {**settings, 'crops': 'random'}, 2) is None
    path.write_text('{"thresholds": [0.1,')
    assert read_thresholds(path, settings, 2) is None


def test_the_pass_sees_whole_images(data_root):
    from mmengine.registry import init_default_scope

    from mmseg_cil.datasets import IncrementalDataset

    init_default_scope('mmseg_cil')
    cfg = tiny_config(data_root, 'plop')
    dataset = IncrementalDataset(
        cfg.train_dataloader.dataset.to_dict(), cfg.protocol.to_dict(), 1, 'train'
    )
    assert dataset[0]['inputs'].shape[1:] == (24, 24)
    plain = without_augmentation(dataset)
    assert plain[0]['inputs'].shape[1:] == (32, 40)
    assert torch.equal(plain[0]['inputs'], plain[0]['inputs'])
    assert plain[0]['data_samples'].gt_sem_seg.data.unique().tolist()[-1] in (3, 255)
    assert dataset[0]['inputs'].shape[1:] == (24, 24)


def test_the_pass_reads_by_loaders_and_transforms_of_the_users_own(data_root):
    import numpy as np
    from mmcv.transforms import BaseTransform
    from mmengine.registry import init_default_scope

    from mmseg_cil.datasets import IncrementalDataset
    from mmseg_cil.registry import TRANSFORMS

    class ReadWhite(BaseTransform):
        def transform(self, results):
            image = np.full((32, 40, 3), 255, np.uint8)
            return {**results, 'img': image, 'img_shape': (32, 40), 'ori_shape': (32, 40)}

    class Halve(BaseTransform):
        def transform(self, results):
            return {**results, 'img': results['img'] // 2}

    init_default_scope('mmseg_cil')
    cfg = tiny_config(data_root, 'plop').train_dataloader.dataset.to_dict()
    for kind in (ReadWhite, Halve):
        TRANSFORMS.register_module(module=kind, force=True)
    cfg['pipeline'][0] = dict(type='ReadWhite')
    cfg['pipeline'].insert(-1, dict(type='Halve'))
    protocol = tiny_config(data_root, 'plop').protocol.to_dict()
    plain = without_augmentation(IncrementalDataset(cfg, protocol, 1, 'train'))
    assert plain[0]['inputs'].shape == (3, 32, 40) and (plain[0]['inputs'] == 127).all()


class OnlyData:
    """The part of a runner that the hook reads before it has seen a model."""

    def __init__(self, dataset):
        self.train_dataloader = DataLoader(dataset)


def test_the_pass_may_see_random_crops_and_these_are_reproducible(data_root):
    from mmengine.registry import init_default_scope

    from mmseg_cil.datasets import IncrementalDataset

    init_default_scope('mmseg_cil')
    cfg = tiny_config(data_root, 'plop')
    dataset = IncrementalDataset(
        cfg.train_dataloader.dataset.to_dict(), cfg.protocol.to_dict(), 1, 'train'
    )
    hook, runner = PseudoLabelThresholdsHook(crops='random'), OnlyData(dataset)
    torch.manual_seed(0)
    first = [batch['inputs'][0] for batch in hook._batches(runner)]
    torch.manual_seed(1)
    again = [batch['inputs'][0] for batch in hook._batches(runner)]
    assert len(first) == len(dataset)
    assert {tuple(image.shape[1:]) for image in first} == {(24, 24)}
    assert all(torch.equal(image, twin) for image, twin in zip(first, again, strict=True))
    with pytest.raises(InputError, match='crops must be one of'):
        PseudoLabelThresholdsHook(crops='centre')


def test_thresholds_of_the_paper_are_from_crops(plop_dir, data_root, tmp_path):
    cfg = tiny_config(data_root, 'plop_paper')
    # Maps of 3 x 3 pixels have no quarters of equal size.
    cfg.method.distillers[0].regions = 'even'
    WalkRunner(cfg, tmp_path, start_from=str(plop_dir), steps='1').run()
    found, whole = thresholds(tmp_path, 1), thresholds(plop_dir, 1)
    assert (found['median'], found['crops']) == ('official', 'random')
    # Crops of 24 x 24 pixels out of images of 32 x 40, none of them padded.
    assert sum(found['pixels']) < sum(whole['pixels'])
