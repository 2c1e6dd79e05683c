"""Wrong configs and data are refused before anything is trained or written."""

import pytest
from PIL import Image
from tiny import make_data, tiny_config

from mmseg_cil.engine.scheduler import TaskScheduler
from mmseg_cil.errors import InputError


@pytest.mark.parametrize(('changes', 'message'), [
    ({'protocol.name': 'vok_15-1'}, 'vok_15-1'),
    ({'protocol.steps': [['background', 'red'], ['red', 'green']]}, 'red'),
    ({'protocol.steps': [['background', 'purple']]}, 'purple'),
    ({'method.magic': 1}, 'magic'),
    ({'global_batch_size': 0, 'train_dataloader.batch_size': 0}, 'global_batch_size'),
    ({'model.backbone.init_cfg': dict(type='Pretrained', checkpoint='nowhere.pth')},
     'nowhere.pth'),
    ({'train_cfg.max_iters': 0}, 'max_iters'),
    ({'protocol.background': 'none', 'protocol.steps': [['red', 'green'], ['blue']]},
     'background'),
    ({'method.distillers.0.loss.type': 'NoSuchLoss'}, 'NoSuchLoss'),
    ({'model.decode_head.channels': 'many'}, 'network of step 2'),
    ({'test_dataloader.dataset.data_root': 'nowhere'}, 'nowhere'),
])
def test_wrong_configs(data_root, tmp_path, changes, message):
    cfg = tiny_config(data_root, **changes)
    if 'protocol.name' in changes:
        cfg.protocol = dict(name=changes['protocol.name'])
    with pytest.raises(InputError, match=message):
        TaskScheduler(cfg, tmp_path / 'walk')
    assert not list(tmp_path.glob('walk/journal.json')) + list(tmp_path.glob('walk/step_*'))


@pytest.fixture
def own_data(tmp_path):
    return make_data(tmp_path / 'data')


def refused(data_root, tmp_path, message):
    with pytest.raises(InputError, match=message) as caught:
        TaskScheduler(tiny_config(data_root), tmp_path / 'walk')
    assert not (tmp_path / 'walk' / 'journal.json').exists()
    return str(caught.value)


def test_an_image_without_a_mask_is_named(own_data, tmp_path):
    (own_data / 'masks/train_003.png').unlink()
    refused(own_data, tmp_path, 'train_003')


@pytest.mark.parametrize('folder', ['images', 'masks'])
def test_a_truncated_file_is_named(own_data, tmp_path, folder):
    path = own_data / folder / 'train_005.png'
    path.write_bytes(path.read_bytes()[:-30])
    refused(own_data, tmp_path, f'{folder}/train_005')


def test_unknown_mask_ids_are_named(own_data, tmp_path):
    path = own_data / 'masks/val_002.png'
    mask = Image.open(path)
    mask.putpixel((0, 0), 77)
    mask.save(path)
    assert '77' in refused(own_data, tmp_path, 'val_002')


def test_a_step_without_images_is_named_with_the_way_on(own_data, tmp_path):
    cfg = tiny_config(own_data)
    for path in (own_data / 'masks').glob('train_*.png'):
        mask = Image.open(path)
        mask.point(lambda value: 0 if value == 3 else value).save(path)
    with pytest.raises(InputError, match=r'step 1 \(blue\).*skip_empty_steps'):
        TaskScheduler(cfg, tmp_path / 'walk')
    cfg.skip_empty_steps = True
    scheduler = TaskScheduler(cfg, tmp_path / 'walk')
    scheduler.run()
    assert [one['trained'] for one in scheduler.journal.content['steps']] == [True, False, True]
    # What learnt nothing teaches nothing: step 2 learns from step 0.
    assert scheduler._teacher(2)['num_classes'] == 3
