"""Wrong configs and data are refused before anything is trained or written."""

import pytest
from PIL import Image

from mmseg_cil.engine.config.load import load_config
from mmseg_cil.engine.preflight import values
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import make_data, tiny_config


def refused(cfg, tmp_path, message):
    """The error that a config is refused with, before anything is trained or written."""
    with pytest.raises(InputError, match=message) as caught:
        WalkRunner(cfg, tmp_path / 'walk').prepare()
    assert not list(tmp_path.glob('walk/journal.json')) + list(tmp_path.glob('walk/step_*'))
    return str(caught.value)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'protocol.name': 'vok_15-1'}, 'vok_15-1'),
        ({'protocol.steps': [['background', 'red'], ['red', 'green']]}, 'red'),
        ({'protocol.steps': [['background', 'purple']]}, 'purple'),
        ({'method.magic': 1}, 'magic'),
        (
            {'model.backbone.init_cfg': dict(type='Pretrained', checkpoint='nowhere.pth')},
            'nowhere.pth',
        ),
        ({'train_cfg.max_iters': 0}, 'max_iters'),
        (
            {'protocol.background': 'none', 'protocol.steps': [['red', 'green'], ['blue']]},
            'background',
        ),
        ({'method.distillers.0.loss.type': 'NoSuchLoss'}, 'NoSuchLoss'),
        ({'model.decode_head.channels': 'many'}, 'network of step 2'),
        ({'test_dataloader.dataset.data_root': 'nowhere'}, 'nowhere'),
    ],
)
def test_wrong_configs(data_root, tmp_path, changes, message):
    cfg = tiny_config(data_root, **changes)
    if 'protocol.name' in changes:
        cfg.protocol = dict(name=changes['protocol.name'])
    assert message in refused(cfg, tmp_path, message)


@pytest.mark.parametrize(
    ('key', 'kind', 'message'),
    [
        ('model', 'EncoderDecodr', "model.type is 'EncoderDecodr'"),
        ('model.backbone', 'ResNeet', "no model 'ResNeet'; did you mean ResNet"),
        ('model.data_preprocessor', 'SegDataPreprocesor', 'did you mean SegDataPreProcessor'),
        ('method.loss_decode', 'UnbiasedCrossEntropy', 'did you mean UnbiasedCrossEntropyLoss'),
        ('optim_wrapper', 'OptWrapper', "no optim wrapper 'OptWrapper'; did you mean OptimWrapper"),
        ('optim_wrapper.optimizer', 'SDG', "no optimizer 'SDG'; did you mean SGD"),
        ('param_scheduler.0', 'PollyLR', "no parameter scheduler 'PollyLR'; did you mean PolyLR"),
        ('train_dataloader.dataset', 'BaseSegDatset', 'did you mean BaseSegDataset'),
        ('train_dataloader.dataset.pipeline.2', 'RandomCorp', 'did you mean RandomCrop'),
        ('test_dataloader.dataset.pipeline.0', 'LoadImage', 'did you mean LoadImageFromFile'),
        ('default_hooks.timer', 'IterTimer', 'default_hooks.timer of step 0.*IterTimerHook'),
        ('log_processor', 'LogProcesor', 'did you mean LogProcessor'),
    ],
)
def test_wrong_type_names_are_told_with_near_ones(data_root, tmp_path, key, kind, message):
    text = refused(tiny_config(data_root, **{f'{key}.type': kind}), tmp_path, message)
    assert kind in text and '\n' not in text


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'global_batch_size': 'abc'}, "global_batch_size is 'abc'"),
        ({'global_batch_size': 0}, 'global_batch_size is 0'),
        ({'randomness.seed': 'x'}, 'randomness.seed'),
        ({'train_dataloader.num_workers': 'two'}, 'train_dataloader.num_workers'),
        ({'train_cfg.val_interval': 0}, 'train_cfg.val_interval'),
        ({'train_cfg.max_epochs': 3}, 'train_cfg of step 0.*max_epochs'),
        ({'default_hooks.checkpoint.interval': 0}, 'default_hooks.checkpoint.interval'),
        ({'default_hooks.logger.interval': 0}, 'default_hooks.logger.interval'),
        ({'optim_wrapper.optimizer.momentumm': 0.9}, 'optim_wrapper of step 0.*momentumm'),
        ({'param_scheduler.0.powr': 0.9}, 'param_scheduler PolyLR of step 0.*powr'),
        ({'train_dataloader.dataset.pipeline.2.crop': 3}, "RandomCrop.*'crop'"),
        ({'train_cfg.type': 'EpochBasedTrainLoop'}, "train_cfg.type is 'EpochBased"),
        ({'env_cfg': dict(mp_cfg=dict(mp_start_method='frok'))}, "mp_start_method is 'frok'"),
        (
            {'method': dict(name='x', distillers=dict(type='LogitDistiller'))},
            'distillers must be a',
        ),
        ({'skip_empty_steps': 'no'}, "skip_empty_steps is 'no'"),
        ({'log_level': 'LOUD'}, "log_level is 'LOUD'"),
        ({'step_overrides': 3}, 'step_overrides is 3'),
        ({'step_overrides.7': dict(lr=0.1)}, 'step 7, but the walk has the steps 0..2'),
        ({'step_overrides.1': {'optim_wrapper.optimizer.type': 'SDG'}}, 'of step 1.*SDG'),
        ({'step_overrides.1': {'model.backbone.dept': 3}}, "model.backbone.dept .*mean 'depth'"),
        ({'visualizer': dict(type='SegVis')}, "no visualizer 'SegVis'"),
        ({'custom_hooks': [dict(type='EMAHok')]}, 'custom_hooks.0 of step 0.*EMAHook'),
    ],
)
def test_wrong_values_are_told_with_their_place(data_root, tmp_path, changes, message):
    cfg = tiny_config(data_root)
    for key, value in changes.items():
        cfg.merge_from_dict({key: value}) if '.' in key else cfg.__setattr__(key, value)
    refused(cfg, tmp_path, message)


def test_a_config_file_with_a_syntax_error_is_named(tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text('model = dict(\n')
    with pytest.raises(InputError, match=r'broken\.py cannot be read: SyntaxError'):
        load_config(path)
    path.write_text('train_cfg = dict(max_iters=3)\n')
    with pytest.raises(InputError, match='--cfg-options cannot be applied'):
        load_config(path, {'train_cfg.max_iters.deeper': 3})


def test_padding_to_another_size_than_the_crop_is_warned_of(data_root, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(values, 'print_log', lambda text, *_: said.append(text))
    prepare_walk(tiny_config(data_root), tmp_path)
    assert not said
    prepare_walk(tiny_config(data_root, **{'model.data_preprocessor.size': (48, 48)}), tmp_path)
    assert len(said) == 1 and 'crops to (24, 24)' in said[0] and '(48, 48)' in said[0]


@pytest.fixture
def own_data(tmp_path):
    return make_data(tmp_path / 'data')


def test_an_image_without_a_mask_is_named(own_data, tmp_path):
    (own_data / 'masks/train_003.png').unlink()
    text = refused(tiny_config(own_data), tmp_path, 'train_003')
    assert 'image without mask' in text


@pytest.mark.parametrize('folder', ['images', 'masks'])
def test_a_truncated_file_is_named(own_data, tmp_path, folder):
    path = own_data / folder / 'train_005.png'
    path.write_bytes(path.read_bytes()[:-30])
    text = refused(tiny_config(own_data), tmp_path, f'{folder}/train_005')
    assert 'truncated or corrupt' in text


def test_unknown_mask_ids_are_named(own_data, tmp_path):
    path = own_data / 'masks/val_002.png'
    mask = Image.open(path)
    mask.putpixel((0, 0), 77)
    mask.save(path)
    assert '77' in refused(tiny_config(own_data), tmp_path, 'val_002')


@pytest.mark.walk
def test_a_step_without_images_is_named_with_the_way_on(own_data, tmp_path):
    cfg = tiny_config(own_data)
    for path in (own_data / 'masks').glob('train_*.png'):
        mask = Image.open(path)
        mask.point(lambda value: 0 if value == 3 else value).save(path)
    with pytest.raises(InputError, match=r'step 1 \(blue\).*skip_empty_steps'):
        WalkRunner(cfg, tmp_path / 'walk').prepare()
    cfg.skip_empty_steps = True
    scheduler = WalkRunner(cfg, tmp_path / 'walk').open()
    scheduler.run()
    assert [step['trained'] for step in scheduler.journal.content['steps']] == [True, False, True]
    # A step that learnt nothing is no teacher: step 2 learns from step 0.
    assert scheduler._teacher(2)['num_classes'] == 3
