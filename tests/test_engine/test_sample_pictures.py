"""Sample pictures of the report, whatever images, masks and names are."""

import json

import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from PIL import Image
from torch import nn

from mmseg_cil.engine import commands, predictions
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.sample_pictures import as_picture, sample_names
from mmseg_cil.errors import InputError
from mmseg_cil.registry import TRANSFORMS
from mmseg_cil.testing.tiny import make_data, tiny_config
from mmseg_cil.visualization.samples import read_image, read_mask, read_samples


@TRANSFORMS.register_module()
class LoadFiveBands(BaseTransform):
    """A loader of the user's own."""

    def transform(self, results):
        image = np.load(results['img_path'])
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results


class Oracle(nn.Module):
    """Predicts the labels, and the background where there is none."""

    def test_step(self, batch):
        for sample in batch['data_samples']:
            labels = sample.gt_sem_seg.data.clone()
            labels[labels == 255] = 0
            sample.pred_sem_seg = PixelData(data=labels)
        return batch['data_samples']


def drawn(data, work_dir, **changes):
    """Samples as a walk draws them after its last step, and the notes."""
    walk = prepare_walk(tiny_config(data, **changes), work_dir)
    notes = predictions.predict_samples(Oracle(), walk, 2, is_main=True)
    return read_samples(work_dir), notes


def rename(data, split, names):
    listed = (data / f'lists/{split}.txt').read_text().split()
    for old, new in zip(listed, names, strict=True):
        for folder in ('images', 'masks'):
            target = data / folder / f'{new}.png'
            target.parent.mkdir(parents=True, exist_ok=True)
            (data / folder / f'{old}.png').rename(target)
    (data / f'lists/{split}.txt').write_text('\n'.join(names) + '\n', encoding='utf-8')


def test_names_become_names_of_files():
    names = ['val_000', 'aachen/a-1.0', 'a b', 'a#b', '街景', '.hidden', 'x' * 300, 'aachen_a-1.0']
    files = sample_names(names)
    assert files[:2] == ['val_000', 'aachen_a-1.0'] and files[4] == '街景'
    assert len(set(files)) == len(files) and max(map(len, files)) < 120
    assert sample_names(names) == files
    assert not any('/' in file or ' ' in file or file.startswith('.') for file in files)


def test_images_of_any_name_are_drawn(tmp_path):
    data = make_data(tmp_path / 'data')
    names = ['a b', 'p[0]', '100%', '#5', 'x,y', 'ü.v1', '街景(1)', 'folder/1+2']
    rename(data, 'val', names)
    found, notes = drawn(data, tmp_path / 'w')
    assert len(found) == 6 and not notes
    for sample in found:
        prediction = read_mask(tmp_path / 'w/step_02/predictions' / f'{sample.name}.png')
        truth = read_mask(sample.truth)
        assert np.array_equal(np.where(truth == 255, 0, truth), prediction)


def test_an_ordinary_picture_is_that_of_its_file(data_root, tmp_path):
    found, notes = drawn(data_root, tmp_path / 'w')
    assert not notes
    original = np.array(Image.open(data_root / 'images' / f'{found[0].name}.png'))
    assert np.corrcoef(read_image(found[0].image).ravel(), original.ravel())[0, 1] > 0.95
    truth = np.array(Image.open(data_root / 'masks' / f'{found[0].name}.png'))
    assert np.array_equal(read_mask(found[0].truth), truth)


def test_masks_of_one_bit_are_classes_0_and_1(tmp_path):
    data = make_data(tmp_path / 'data')
    for path in (data / 'masks').glob('val_*'):
        mask = np.array(Image.open(path))
        Image.fromarray(mask == 1).convert('1').save(path)
    found, notes = drawn(data, tmp_path / 'w')
    assert found and not notes
    assert set(np.unique(read_mask(found[0].truth))) == {0, 1}


def test_images_of_a_loader_of_the_users_own_are_drawn_from_the_pipeline(tmp_path):
    data = make_data(tmp_path / 'data')
    for path in (data / 'images').iterdir():
        image = np.array(Image.open(path)).astype(np.float32) * 40
        np.save(path.with_suffix('.npy'), np.concatenate([image, image[..., :2]], 2))
    load = [dict(type='LoadFiveBands'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    cfg = {
        'model.backbone.in_channels': 5,
        'model.data_preprocessor.mean': [110.0],
        'model.data_preprocessor.std': [60.0],
        'model.data_preprocessor.bgr_to_rgb': False,
    }
    for split in ('train', 'test'):
        cfg[f'{split}_dataloader.dataset.img_suffix'] = '.npy'
        cfg[f'{split}_dataloader.dataset.pipeline'] = load
    found, notes = drawn(data, tmp_path / 'w', **cfg)
    assert len(found) > 2 and not notes
    original = np.array(Image.open(data / 'images' / f'{found[0].name}.png'))
    assert np.corrcoef(read_image(found[0].image).ravel(), original.ravel())[0, 1] > 0.95


def test_images_that_exif_turns_are_drawn_as_they_are_loaded(tmp_path):
    data = make_data(tmp_path / 'data')
    for path in (data / 'images').glob('val_*'):
        turned = Image.open(path).transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6
        turned.save(path, exif=exif)
    found, notes = drawn(data, tmp_path / 'w')
    assert found and not notes
    assert read_image(found[0].image).shape[:2] == read_mask(found[0].truth).shape == (32, 40)


def test_what_cannot_be_drawn_is_left_out_with_a_note(data_root, tmp_path, monkeypatch):
    write = predictions.keep_sample

    def fail_once(work_dir, name, *arrays):
        if not read_samples(work_dir) and not failed:
            failed.append(name)
            raise OSError('no space left')
        return write(work_dir, name, *arrays)

    failed = []
    monkeypatch.setattr(predictions, 'keep_sample', fail_once)
    found, notes = drawn(data_root, tmp_path / 'w')
    assert found and failed[0] not in [sample.name for sample in found]
    assert notes == [f'the picture of {failed[0]}: OSError: no space left']


def test_later_steps_write_no_picture_of_an_earlier_one_again(data_root, tmp_path):
    found, _ = drawn(data_root, tmp_path / 'w')
    kept = [tmp_path / 'w/report/samples.json', *(sample.image for sample in found)]
    kept += [sample.truth for sample in found]
    before = [(path.stat().st_ino, path.read_bytes()) for path in kept]
    assert drawn(data_root, tmp_path / 'w')[0] == found
    assert before == [(path.stat().st_ino, path.read_bytes()) for path in kept]
    # Changed pictures are written anew.
    found[0].image.write_bytes(b'no picture')
    drawn(data_root, tmp_path / 'w')
    assert before[1][1] == kept[1].read_bytes()


def test_a_damaged_index_of_samples_ends_no_walk(data_root, tmp_path):
    (tmp_path / 'w/report').mkdir(parents=True)
    (tmp_path / 'w/report/samples.json').write_text('{')
    walk = prepare_walk(tiny_config(data_root), tmp_path / 'w')
    notes = predictions.predict_samples(Oracle(), walk, 2, is_main=True)
    assert len(notes) == 1 and 'samples.json is damaged' in notes[0]
    assert predictions.predict_samples(Oracle(), walk, 2, is_main=False) == []


def picture(values, **options):
    return as_picture(np.array(values), options.get('bgr', False))


def test_bands_and_numbers_become_a_picture():
    pixel = np.array([[[10, 20, 30]]], np.uint8)
    assert picture(pixel).tolist() == [[[10, 20, 30]]]
    assert picture(pixel, bgr=True).tolist() == [[[30, 20, 10]]]
    assert picture(np.array([[7]], np.uint8)).tolist() == [[[7, 7, 7]]]
    assert picture(np.array([[[7, 9]]], np.uint8)).tolist() == [[[7, 7, 7]]]
    assert picture(np.arange(5, dtype=np.uint8)[None, None]).tolist() == [[[0, 1, 2]]]
    assert picture(np.array([[0, 65535]], np.uint16))[:, :, 0].tolist() == [[0, 255]]
    assert picture(np.array([[0.0, 12.4, 255.0]]))[:, :, 0].tolist() == [[0, 12, 255]]
    assert picture(np.array([[-1.0, np.nan, 1.0]]))[:, :, 0].tolist() == [[0, 128, 255]]
    assert picture(np.array([[3.0, 3.0]]) * 1000)[:, :, 0].tolist() == [[0, 0]]
    assert picture(np.array([[False, True]]))[:, :, 0].tolist() == [[0, 255]]


def test_an_array_that_is_no_image_is_refused():
    with pytest.raises(InputError, match=r'shape \(2,\)'):
        as_picture(np.zeros(2), False)


def test_the_index_lists_what_was_drawn(data_root, tmp_path):
    found, _ = drawn(data_root, tmp_path / 'w')
    listed = json.loads((tmp_path / 'w/report/samples.json').read_text())
    assert [entry['name'] for entry in listed] == [sample.name for sample in found]


def test_a_report_that_cannot_be_rendered_ends_no_walk(tmp_path, monkeypatch, capsys):
    def fail(work_dir):
        raise ValueError('no such font')

    monkeypatch.setattr('mmseg_cil.visualization.report.render_report', fail)
    commands._render(tmp_path)
    assert capsys.readouterr().out == (
        'note: the report cannot be rendered (ValueError: no such font); the walk is done, and '
        f'mmseg-cil report {tmp_path} renders it again\n'
    )
