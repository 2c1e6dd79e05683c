"""Training is validated with the config's own validation images, where it has them."""

import json

import pytest

from mmseg_cil.engine.data import validation_dataset
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import make_data, tiny_config


def config(root, lists, **changes):
    cfg = tiny_config(root, 'finetune', **{'train_cfg.val_interval': 3, **changes})
    cfg.val_dataloader = cfg.test_dataloader.to_dict()
    cfg.val_dataloader.dataset.ann_file = f'lists/{lists}.txt'
    return cfg


def validated(work_dir):
    """Images that the log says were validated with."""
    text = ''.join(path.read_text() for path in work_dir.glob('step_00/*/*.log'))
    return {part.split(']')[0].split('/')[1] for part in text.split('Iter(val) [')[1:]}


@pytest.mark.walk
@pytest.mark.parametrize(('lists', 'images'), [('few', '3'), ('val', '6')])
def test_validation_has_its_own_images(tmp_path, lists, images):
    root = make_data(tmp_path / 'data')
    names = [f'train_{i:03d}' for i in (0, 1, 4, 6)]
    (root / 'lists/few.txt').write_text('\n'.join(names))
    cfg = config(root, lists, log_level='INFO')
    cfg.val_dataloader.dataset.pipeline[0] = dict(type='LoadImageFromFile', to_float32=True)
    WalkRunner(cfg, tmp_path / 'walk', steps='0').run()
    # The last of the four images shows no class that is seen at step 0.
    assert validated(tmp_path / 'walk') == {images}
    assert json.loads((tmp_path / 'walk/metrics.json').read_text())['steps'][0]['images'] == 6


def test_wrong_validation_images_are_refused_before_training_where_they_are_read(tmp_path):
    root = make_data(tmp_path / 'data')
    cfg = config(root, 'train')
    cfg.val_dataloader.dataset.pipeline.insert(1, dict(type='Resize', scale='large'))
    with pytest.raises(InputError, match=r'Resize in the pipeline of the test split fails'):
        WalkRunner(cfg, tmp_path / 'walk').prepare()
    (root / 'lists/wrong.txt').write_text('nothing')
    with pytest.raises(InputError, match='nothing'):
        WalkRunner(config(root, 'wrong'), tmp_path / 'walk').prepare()
    assert not (tmp_path / 'walk/journal.json').exists()
    # No step is long enough to be validated.
    WalkRunner(config(root, 'wrong', **{'train_cfg.val_interval': 8000}), tmp_path / 'walk').open()


def test_aliases_and_pooled_lists_are_validated_with_the_test_images(data_root):
    cfg = tiny_config(data_root)
    cfg.val_dataloader = cfg.test_dataloader
    assert validation_dataset(cfg, False) is None
    cfg = config(data_root, 'train')
    assert validation_dataset(cfg, False).ann_file == 'lists/train.txt'
    assert validation_dataset(cfg, True) is None
    cfg.pop('test_dataloader')
    assert validation_dataset(cfg, False) is None
