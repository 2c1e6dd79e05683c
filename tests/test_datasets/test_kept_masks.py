"""Decoded masks are kept up to a limit, and change no sample."""

import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmseg_cil.datasets.kept_masks import KeptMasks, keeps
from mmseg_cil.datasets.sample_pipeline import SamplePipeline
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import logged

SIZE = (20, 50)  # 1,000 bytes a mask


@pytest.fixture
def masks(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f'{number}.png' for number in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 4, SIZE, dtype=np.uint8)).save(path)
    return [str(path) for path in paths]


def sample(path, **further):
    return dict(seg_map_path=path, seg_fields=[], reduce_zero_label=False, **further)


def test_a_kept_mask_is_not_read_again_and_cannot_be_changed(masks, tmp_path):
    kept, transform = KeptMasks(1), LoadAnnotations()
    expected = LoadAnnotations()(sample(masks[0]))
    for _ in range(3):
        found = kept.load(transform, sample(masks[0]))
        assert found.keys() == expected.keys() and found['seg_fields'] == ['gt_seg_map']
        assert np.array_equal(found['gt_seg_map'], expected['gt_seg_map'])
        found['gt_seg_map'][:] = 7
        (tmp_path / '0.png').unlink(missing_ok=True)
    assert len(kept) == 1


def test_masks_beyond_the_limit_are_decoded_each_time(masks):
    kept, transform = KeptMasks(0.002), LoadAnnotations()
    for _ in range(2):
        for path in masks:
            found = kept.load(transform, sample(path))['gt_seg_map']
            assert np.array_equal(found, np.asarray(Image.open(path)))
    assert len(kept) == 2


def test_labels_by_another_map_are_other_masks(masks):
    kept, transform = KeptMasks(1), LoadAnnotations()
    plain = kept.load(transform, sample(masks[0]))['gt_seg_map']
    mapped = kept.load(transform, sample(masks[0], label_map={1: 9}))['gt_seg_map']
    assert len(kept) == 2 and np.array_equal(mapped, np.where(plain == 1, 9, plain))


def test_only_the_stock_loader_is_asked_once(masks):
    """A user's own loader may add other keys to a sample, which nobody has kept."""

    class Own(LoadAnnotations):
        def transform(self, results):
            return dict(super().transform(results), own=True)

    assert keeps(LoadAnnotations()) and not keeps(Own())
    pipeline = SamplePipeline([Own()], 'train', KeptMasks(1))
    assert all(pipeline(sample(masks[0]))['own'] for _ in range(2))
    assert not len(pipeline.kept)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_walk_with_kept_masks_has_the_same_losses(workers, data_root, tmp_path):
    """Also beside workers, which have masks of their own."""
    losses = []
    for megabytes in (0, 1):
        cfg = tiny_config(data_root, 'mib', keep_masks=megabytes)
        cfg.train_dataloader.update(num_workers=workers, persistent_workers=bool(workers))
        WalkRunner(cfg, tmp_path / str(megabytes)).run()
        lines = [line for step in (0, 1) for line in logged(tmp_path / str(megabytes), step)]
        losses.append([line['loss'] for line in lines])
    assert losses[0] == losses[1] and len(losses[0]) > 2


def test_a_walk_may_go_on_with_another_limit(data_root, tmp_path):
    WalkRunner(tiny_config(data_root, 'finetune', keep_masks=1), tmp_path, steps='0').run()
    WalkRunner(tiny_config(data_root, 'finetune'), tmp_path, resume=True).run()
    assert logged(tmp_path, 1)


@pytest.mark.parametrize('value', [-1, True, 'many'])
def test_a_limit_that_is_none_is_refused(value, data_root, tmp_path):
    with pytest.raises(InputError, match=r'keep_masks is .*megabytes of decoded masks'):
        WalkRunner(tiny_config(data_root, 'mib', keep_masks=value), tmp_path).run()
