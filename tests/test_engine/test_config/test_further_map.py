"""A second map of the training images stands after the labels, or is refused."""

import pytest
from mmengine.config import Config

from mmseg_cil.engine.config.further_map import add_further_map
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_loaders, tiny_model


@pytest.fixture
def cfg(tmp_path):
    return Config(dict(model=tiny_model(), **tiny_loaders(tmp_path)))


def kinds(cfg):
    return [transform['type'] for transform in cfg.train_dataloader.dataset.pipeline]


def test_it_stands_right_after_the_labels(cfg):
    before = kinds(cfg)
    add_further_map(cfg, dict(type='Saliency'))
    place = before.index('LoadAnnotations') + 1
    assert kinds(cfg) == [*before[:place], 'Saliency', *before[place:]]


def test_one_that_reads_what_a_step_writes_is_told_the_folder(cfg):
    cfg.work_dir = 'walk/step_01'
    add_further_map(cfg, dict(type='SelfLabelMap'))
    pipeline = cfg.train_dataloader.dataset.pipeline
    found = next(transform for transform in pipeline if transform['type'] == 'SelfLabelMap')
    assert found == dict(type='SelfLabelMap', step_folder='walk/step_01')


def test_it_needs_labels_to_stand_after(cfg):
    cfg.train_dataloader.dataset.pipeline = [dict(type='PackSegInputs')]
    with pytest.raises(InputError, match='stands behind LoadAnnotations'):
        add_further_map(cfg, dict(type='Saliency'))


def test_a_head_that_learns_edges_leaves_it_no_place(cfg):
    cfg.model.decode_head = dict(type='PIDHead', in_channels=8, channels=8, num_classes=2)
    with pytest.raises(
        InputError,
        match=r'further_map \(Saliency\) travels as gt_edge_map, which model.decode_head '
        r'\(PIDHead\) learns as edges between classes: train',
    ):
        add_further_map(cfg, dict(type='Saliency'))


def test_edges_of_the_pipeline_leave_it_no_place(cfg):
    cfg.train_dataloader.dataset.pipeline.insert(2, dict(type='GenerateEdge'))
    with pytest.raises(InputError, match='GenerateEdge in the training pipeline writes'):
        add_further_map(cfg, dict(type='Saliency'))


def test_the_boundary_head_of_stdc_makes_its_target_of_the_labels(cfg):
    cfg.model.auxiliary_head = dict(type='STDCHead', in_channels=8, channels=8, num_classes=1)
    add_further_map(cfg, dict(type='Saliency'))
    assert 'Saliency' in kinds(cfg)
