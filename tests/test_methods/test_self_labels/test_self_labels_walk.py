"""Walks that learn from self-labels: what they are, that they follow crops, and that they go."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmseg_cil.engine.preflight import cut_images, rehearsal
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.methods.self_labels.files import LabelFolder
from mmseg_cil.methods.self_labels.label_map import SelfLabelMap
from mmseg_cil.methods.self_labels.loss import SelfLabelCrossEntropyLoss
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights, at, killed, logged

METHOD = dict(
    name='self_labels',
    loss_decode=dict(type='SelfLabelCrossEntropyLoss', loss_weight=1.0),
    classifier_init='balanced',
    further_map=dict(type='SelfLabelMap'),
    custom_hooks=[dict(type='SelfLabelsHook')],
)


SOFT = dict(
    name='soft_self_labels',
    loss_decode=[
        dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
        dict(type='SoftSelfLabelLoss', loss_weight=10.0),
    ],
    classifier_init='balanced',
    further_map=dict(type='SelfLabelCells'),
    custom_hooks=[dict(type='SoftSelfLabelsHook', top_k=2, cell=2)],
)


def config(data_root, **changes):
    return tiny_config(data_root, METHOD, **changes)


@pytest.fixture(scope='module')
def base(data_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('base')
    WalkRunner(config(data_root), folder, steps='0').run()
    return folder


def maps_in(work_dir):
    files = sorted((work_dir / 'step_01/self_labels').glob('*.png'))
    return {path.name: path.read_bytes() for path in files}


def test_labels_are_there_while_a_step_trains_and_follow_what_images_do(base, data_root, tmp_path):
    """With maps of the true labels the loss sees, crop by crop, what the masks say."""
    seen, before = [], SelfLabelCrossEntropyLoss.receive_samples

    def keep(self, samples):
        before(self, samples)
        seen.append((self._maps, torch.cat([sample.gt_sem_seg.data for sample in samples])))

    def shown(self, results):
        assert self.folder.is_done() == ('step_01' in str(self.folder.path))
        mask = results['gt_seg_map']
        return np.where(mask == 3, 3, 255).astype(np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SelfLabelCrossEntropyLoss, 'receive_samples', keep)
        patch.setattr(SelfLabelMap, 'read', shown)
        WalkRunner(config(data_root), tmp_path, start_from=str(base), steps='0-1').run()
    assert len(seen) >= 4
    for maps, labels in seen:
        assert torch.equal(maps == 3, labels == 3) and (maps == 3).any()
    assert not (tmp_path / 'step_01/self_labels').exists()
    assert all(line['decode.loss_self_labels'] > 0 for line in logged(tmp_path, 1))


@pytest.mark.parametrize('method', [METHOD, SOFT], ids=['hard', 'soft'])
def test_the_rehearsal_labels_images_that_it_cuts(data_root, tmp_path, monkeypatch, method):
    """On a CPU the rehearsal cuts large images; labels have the size of the masks all the same."""
    monkeypatch.setattr(cut_images, 'LONGEST', 8)
    monkeypatch.setattr(cut_images, 'GRID', 8)
    widths = []
    forward = IncrementalEncoderDecoder.extract_feat
    monkeypatch.setattr(
        IncrementalEncoderDecoder,
        'extract_feat',
        lambda self, inputs: widths.append(inputs.shape[-1]) or forward(self, inputs),
    )
    walk = WalkRunner(tiny_config(data_root, method), tmp_path).open().walk
    rehearsal.rehearse(walk, [0, 1])
    assert {*widths} == {8}


def test_a_killed_step_goes_on_with_the_labels_that_are_there(base, data_root, tmp_path):
    cfg = config(data_root, **{'train_dataloader.num_workers': 1})
    for name in ('whole', 'broken'):
        run = WalkRunner(cfg, tmp_path / name, start_from=str(base), steps='0-1')
        if name == 'whole':
            run.run()
            continue
        with killed(at(step=1, iteration=3)):
            run.run()
        left = [str(path) for path in (tmp_path / name).glob('step_01/self_labels/*.png')]
        assert len(left) > 4 and LabelFolder(tmp_path / name / 'step_01').is_done()
        values = {int(value) for file in left for value in np.unique(cv2.imread(file, -1))}
        assert values <= {0, 1, 2, 255} and len(values) > 1
        WalkRunner(cfg, tmp_path / name, resume=True, steps='0-1').run()
    assert_same_weights(tmp_path / 'whole', tmp_path / 'broken', 1)


def test_a_rehearsal_labels_a_few_images(data_root, tmp_path):
    WalkRunner(config(data_root, rehearsal=True), tmp_path).prepare()
    assert not list(tmp_path.rglob('*.png'))


def _label_alone(content, start, folder):
    """Kill a step right after its images are labelled."""
    with killed(at(step=1, iteration=0)):
        WalkRunner(
            Config(dict(content)), folder, 'pytorch', start_from=str(start), steps='0-1'
        ).run()


def test_two_processes_make_the_labels_that_one_makes(base, data_root, tmp_path):
    cfg = config(data_root)
    with killed(at(step=1, iteration=0)):
        WalkRunner(cfg, tmp_path / 'one', start_from=str(base), steps='0-1').run()
    in_two_processes(_label_alone, cfg.to_dict(), base, tmp_path / 'two', log=tmp_path / 'log')
    assert maps_in(tmp_path / 'one') == maps_in(tmp_path / 'two') != {}


@pytest.mark.slow
@pytest.mark.walk
def test_it_does_what_every_method_does(tmp_path):
    check_method(METHOD, tmp_path, checks=['processes', 'replay', 'empty_step', 'mixed_precision'])


@pytest.mark.slow
@pytest.mark.walk
def test_soft_labels_do_what_every_method_does(tmp_path):
    check_method(SOFT, tmp_path, checks=['resume', 'processes', 'replay', 'mixed_precision'])
    for line in logged(tmp_path / 'replay', 1):
        assert line['decode.loss_soft_self_labels'] > 0
    assert not list(tmp_path.rglob('self_labels'))
