"""Settings that make another walk, settings that make another evaluation, and the rest."""

import hashlib
import io

import pytest

from mmseg_cil.engine.record import fingerprint
from mmseg_cil.engine.record.fingerprint import (
    changed,
    evaluation_fingerprint,
    file_hash,
    training_fingerprints,
)
from mmseg_cil.protocols import build_protocol
from mmseg_cil.testing.tiny import CLASSES, tiny_config

PIPELINE = 'test_dataloader.dataset.pipeline'


def prints(cfg, world_size=1, images=(8, 4, 4)):
    protocol = build_protocol(cfg.protocol, CLASSES)
    return (
        training_fingerprints(cfg, protocol, images, world_size),
        evaluation_fingerprint(cfg, protocol, (8, 8, 8)),
    )


@pytest.fixture
def cfg():
    return tiny_config('data')


@pytest.mark.parametrize(
    'changes',
    [
        {'protocol.policy': dict(old='base')},
        {'protocol.policy': dict(background_in_means=False)},
        {'protocol.policy': dict(void_test='background')},
        {'protocol.policy': dict(unseen_test='ignore')},
        {'protocol.policy': dict(test_images='all')},
        {'model.test_cfg': dict(mode='slide', crop_size=(24, 24), stride=(16, 16))},
        {'model.data_preprocessor.test_cfg': dict(size_divisor=8)},
        {PIPELINE: [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]},
    ],
)
def test_what_only_tests_read_is_another_evaluation_of_the_same_walk(cfg, changes):
    before, now = prints(cfg), prints(tiny_config('data', **changes))
    assert changed(before[0], now[0]) == [] and before[1] != now[1]


@pytest.mark.parametrize(
    ('changes', 'kinds'),
    [
        ({'protocol.setting': 'disjoint'}, ['protocol']),
        ({'protocol.policy': dict(void_train='background')}, ['protocol']),
        ({'method.name': 'other'}, ['method']),
        ({'model.decode_head.channels': 4}, ['model']),
        ({'optim_wrapper.optimizer.lr': 0.1}, ['schedule']),
        (
            {'step_overrides.later': {'model.backbone.dilations': (1, 1, 1, 1)}},
            ['model', 'schedule'],
        ),
        ({'custom_hooks': [dict(type='EMAHook')]}, ['custom hooks']),
        ({'train_dataloader.dataset.pipeline': []}, ['train pipeline']),
        ({'randomness.seed': 4}, ['seed']),
    ],
)
def test_what_training_reads_is_another_walk_of_the_same_evaluation(cfg, changes, kinds):
    before, now = prints(cfg), prints(tiny_config('data', **changes))
    assert changed(before[0], now[0]) == kinds and before[1] == now[1]


def test_neither_places_nor_workers_count(cfg):
    other = tiny_config(
        'elsewhere', **{'train_dataloader.num_workers': 3, 'work_dir': 'there', 'log_level': 'INFO'}
    )
    assert prints(cfg) == prints(other)


def test_shared_layers_do_not_count_and_forms_of_teachers_do(cfg):
    def with_form(**form):
        return prints(tiny_config('data', **{'method.teacher_form': form}))[0]

    assert with_form(shared_trunk=False) == with_form(shared_trunk=True) == prints(cfg)[0]
    assert with_form(shared_trunk=False, fold_norms=True) == with_form(fold_norms=True)
    assert changed(prints(cfg)[0], with_form(fold_norms=True)) == ['method']


def test_training_images_count(cfg):
    now = prints(cfg, images=(8, 4, 5))[0]
    assert changed(prints(cfg)[0], now) == ['training images']


def test_the_batch_of_all_processes_counts_and_not_their_number(cfg):
    assert prints(cfg, world_size=1) == prints(cfg, world_size=2)
    cfg.global_batch_size = None
    assert changed(prints(cfg, 1)[0], prints(cfg, 2)[0]) == ['schedule']
    whole = prints(cfg, 2)[0]
    cfg.global_batch_size = 8
    assert prints(cfg, 1)[0] == whole


def weights(**init_cfg):
    return prints(tiny_config('data', **{'model.backbone.init_cfg': init_cfg}))[0]['model']


def test_weights_that_were_moved_make_no_other_network():
    here = weights(type='Pretrained', checkpoint='here/r18.pth')
    assert here == weights(type='Pretrained', checkpoint='there/r18.pth')
    assert here != weights(type='Pretrained', checkpoint='here/r18.pth', prefix='backbone.')
    assert here != weights(type='Kaiming', layer='Conv2d')
    assert here != prints(tiny_config('data'))[0]['model']


@pytest.mark.parametrize('key', ['model.pretrained', 'load_from'])
def test_a_file_to_begin_with_counts_by_its_presence(cfg, key):
    here, there = (prints(tiny_config('data', **{key: place}))[0] for place in ('a.pth', 'b.pth'))
    assert here == there and changed(prints(cfg)[0], here) == ['model']


def test_imported_classes_count_as_their_names(tmp_path):
    (tmp_path / 'lazy.py').write_text(
        'from mmengine.hooks import EMAHook\ncustom_hooks = [dict(type=EMAHook)]\n'
    )
    from mmengine.config import Config

    lazy = Config.fromfile(str(tmp_path / 'lazy.py'), lazy_import=True)
    (tmp_path / 'copy.py').write_text(lazy.pretty_text)
    copy = Config.fromfile(str(tmp_path / 'copy.py'))
    assert fingerprint.fingerprint(
        fingerprint._by_name(lazy).custom_hooks
    ) == fingerprint.fingerprint(copy.custom_hooks)


def test_a_file_is_hashed_in_pieces(tmp_path, monkeypatch):
    content = bytes(range(256)) * 10000
    (tmp_path / 'file').write_bytes(content)

    class Pieces(io.FileIO):
        def read(self, size=-1):
            assert 0 < size <= 1 << 20
            return super().read(size)

    monkeypatch.delattr(hashlib, 'file_digest', raising=False)
    monkeypatch.setattr(fingerprint, 'open', Pieces, raising=False)
    assert file_hash(tmp_path / 'file') == hashlib.sha256(content).hexdigest()
