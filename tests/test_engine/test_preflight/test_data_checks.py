"""Training and test data side by side: classes, ids, lists."""

import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from mmseg_cil.engine.evaluate import open_walk
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.record.fingerprint import evaluation_fingerprint, evaluation_of
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import build_protocol
from mmseg_cil.testing.tiny import CLASSES, PALETTE, tiny_config

ORDER = ('grey', 'red', 'background', 'blue', 'green')
TEST = 'test_dataloader.dataset'


@pytest.fixture
def said(monkeypatch):
    """Collect the messages, in order."""
    told = []
    monkeypatch.setattr(
        'mmseg_cil.engine.preflight.data.print_log',
        lambda text, logger, level: told.append((text, level)),
    )
    return told


def metainfo(classes):
    return dict(classes=list(classes), palette=[PALETTE[CLASSES.index(name)] for name in classes])


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        (('background', 'red', 'green', 'blue'), 'only in training: grey'),
        ((*CLASSES, 'pink'), 'only at test: pink'),
        (
            ('background', 'red', 'green', 'blue', 'Grey'),
            'only in training: grey; only at test: Grey',
        ),
    ],
)
def test_other_classes_at_test_are_refused(data_root, tmp_path, classes, message):
    cfg = tiny_config(data_root)
    cfg.test_dataloader.dataset.metainfo = dict(classes=list(classes))
    with pytest.raises(InputError, match=message) as error:
        prepare_walk(cfg, tmp_path)
    assert str(list(CLASSES)) in str(error.value) and str(list(classes)) in str(error.value)


def test_another_reduce_zero_label_at_test_is_refused(data_root, tmp_path):
    cfg = tiny_config(data_root, **{f'{TEST}.reduce_zero_label': True})
    with pytest.raises(InputError, match=r'reduce_zero_label=False, the test dataset True'):
        prepare_walk(cfg, tmp_path)


def test_test_images_that_are_trained_on_are_told(data_root, tmp_path, said):
    cfg = tiny_config(data_root)
    prepare_walk(cfg, tmp_path)
    assert said == []
    shutil.copytree(data_root, tmp_path / 'data')
    names = [f'train_{i:03d}' for i in range(16)]
    (tmp_path / 'data/lists/train.txt').write_text('\n'.join([*names, 'val_005', 'val_006']))
    # A copy is no other image.
    shutil.copytree(tmp_path / 'data/images', tmp_path / 'data/copies')
    cfg = tiny_config(tmp_path / 'data', **{f'{TEST}.data_prefix.img_path': 'copies'})
    prepare_walk(cfg, tmp_path)
    assert said == [
        (
            '2 of 8 test images are training images too, such as val_005: their scores '
            'are not those of unseen images',
            logging.WARNING,
        )
    ]


def test_names_that_come_twice_and_names_of_no_image_are_told(data_root, tmp_path, said):
    shutil.copytree(data_root, tmp_path / 'data')
    listed = tmp_path / 'data/lists/train.txt'
    listed.write_text(listed.read_text() + 'train_003\n', encoding='utf-8-sig')
    (tmp_path / 'early.txt').write_text('train_000\ntrain_001\nval_000\nlost\n')
    cfg = tiny_config(tmp_path / 'data')
    cfg.protocol = dict(
        name='seasons',
        dataset='tiny',
        strict=False,
        domains=[
            dict(name='early', list_file=str(tmp_path / 'early.txt')),
            dict(name='late', pattern='*_0*[2-9]'),
        ],
    )
    walk = prepare_walk(cfg, tmp_path)
    assert walk.train_images == (2, 13)
    assert [text.split('(')[0] for text, _ in said] == [
        f'{listed} names 1 image more than once ',
        "1 of 4 names in the list of the domain 'early' are no images of the datasets, such as "
        "'lost'",
    ]


def test_damaged_data_are_refused_before_training(data_root, tmp_path):
    shutil.copytree(data_root, tmp_path / 'data')
    image = tmp_path / 'data/images/val_002.png'
    content = bytearray(image.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 60] = bytes(60)
    image.write_bytes(content)
    with pytest.raises(InputError, match=f'corrupt image: {image}'):
        WalkRunner(tiny_config(tmp_path / 'data'), tmp_path / 'w').prepare()
    assert not (tmp_path / 'w/step_00').exists()


def renumbered(data_root, root):
    """The same data, with the test masks in the order of ``ORDER`` and void written as 77."""
    shutil.copytree(data_root, root)
    table = np.array([*(ORDER.index(name) for name in CLASSES), *[77] * 251], np.uint8)
    for path in (root / 'masks').glob('val_*.png'):
        Image.fromarray(table[np.array(Image.open(path))]).save(path)
    return {f'{TEST}.metainfo': metainfo(ORDER), f'{TEST}.void_ids': [77]}


def test_test_masks_are_read_by_their_own_names(data_root, tmp_path, said):
    """Scores equal those of masks in the training order, and evaluating again is no other walk."""
    short = {'step_overrides.later.max_iters': 1}
    plain_scheduler = WalkRunner(tiny_config(data_root, **short), tmp_path / 'plain').open()
    plain_scheduler.run()
    assert said == []
    changes = renumbered(data_root, tmp_path / 'data')
    cfg = tiny_config(tmp_path / 'data', **changes, **short)
    scheduler = WalkRunner(cfg, tmp_path / 'other').open()
    scheduler.run()
    assert [text for text, _ in said] == [
        'the test dataset lists its classes in another order than the training dataset: each '
        'reads its masks by its own list'
    ]
    plain, other = (
        json.loads((tmp_path / name / 'metrics.json').read_text()) for name in ('plain', 'other')
    )
    assert plain == other
    truths = [sorted((tmp_path / name / 'report/samples').glob('*')) for name in ('plain', 'other')]
    assert truths[0] and [path.name for path in truths[0]] == [path.name for path in truths[1]]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*truths, strict=True))
    journal = Journal.load(tmp_path / 'other', writable=False)
    walk = open_walk(cfg, tmp_path / 'other', journal)
    assert walk.protocol == scheduler.walk.protocol
    assert walk.protocol == plain_scheduler.walk.protocol
    assert evaluation_of(walk, 0) == journal.content['steps'][0]['evaluation']


def test_the_meaning_of_test_masks_is_part_of_how_a_walk_is_evaluated(data_root):
    counts = (1, 2, 3)

    def evaluated(**changes):
        cfg = tiny_config(data_root, **changes)
        return evaluation_fingerprint(cfg, build_protocol(cfg.protocol, CLASSES), counts)

    plain = evaluated()
    same = evaluated(**{f'{TEST}.metainfo': metainfo(CLASSES)})
    moved = evaluated(**{f'{TEST}.metainfo': metainfo(ORDER)})
    void = evaluated(**{f'{TEST}.void_ids': [77]})
    assert plain == same and len({plain, moved, void}) == 3


def test_void_ids_of_the_protocol_hold_for_all_datasets(data_root, tmp_path):
    shutil.copytree(data_root, tmp_path / 'data')
    for path in (tmp_path / 'data/masks').glob('*.png'):
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 255, 9, mask)).save(path)
    cfg = tiny_config(tmp_path / 'data')
    with pytest.raises(InputError, match=r'does not know: \[9\](?s:.*)void_ids=\[9\]'):
        prepare_walk(cfg, tmp_path)
    cfg.protocol.void_ids = [9]
    assert (
        prepare_walk(cfg, tmp_path).train_images
        == prepare_walk(tiny_config(data_root), tmp_path).train_images
    )
    with pytest.raises(InputError, match='RepeatDataset has void_ids'):
        prepare_walk(
            tiny_config(
                data_root,
                **{
                    'train_dataloader.dataset': dict(
                        _delete_=True,
                        type='RepeatDataset',
                        times=2,
                        void_ids=[9],
                        dataset=cfg.train_dataloader.dataset,
                    )
                },
            ),
            tmp_path,
        )
