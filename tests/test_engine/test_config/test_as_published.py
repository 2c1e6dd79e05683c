"""The settings of the papers: what they turn a config into, what is left, and walks with them."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS as MMSEG_MODELS

from mmseg_cil.engine.commands import walk_config
from mmseg_cil.engine.config.compose import KINDS, compose
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.config.published.deviations import deviations_of
from mmseg_cil.engine.config.published.frames import FRAMES, find_frame
from mmseg_cil.engine.config.published.settings import as_published, notes_on_published
from mmseg_cil.engine.config.step_config import StepInputs, derive_step_config
from mmseg_cil.engine.export.own_parts import MODULE, with_own_parts
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import build_protocol
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.tiny import make_data, tiny_model

ROOT = Path(__file__).resolve().parents[3]
CROP = dict(type='RandomResizedCrop', scale=512, crop_ratio_range=(0.5, 2.0))
CENTRE = dict(type='ResizedCenterCrop', scale=512)


def composed(method, protocol, **pieces):
    return as_published(compose(dict(method=method, protocol=protocol, **pieces)), pieces)


def names(cfg):
    return [deviation.name for deviation, _ in deviations_of(cfg)]


@pytest.mark.parametrize(
    ('method', 'protocol'),
    [
        *((method, 'voc_15-1') for method in FRAMES),
        ('mib', 'ade20k_100-50'),
        ('plop', 'voc_7-3'),
        ('rcil', 'cityscapes_domain_11-5'),
        ('lwf', 'voc_real_animals'),
    ],
)
def test_all_that_is_offered_is_turned_on(method, protocol):
    cfg, frame = composed(method, protocol), find_frame(method, protocol)
    assert cfg.model.backbone.type == 'mmseg_cil.LeakyResNet'
    assert cfg.model.backbone.depth == 101
    assert cfg.model.backbone.get('stem_activation', True) == (method != 'rcil')
    assert cfg.model.decode_head.type == 'mmseg_cil.PaperASPPHead'
    assert cfg.model.decode_head.dropout_ratio == 0
    assert cfg.model.data_preprocessor.size == (512, 512) == cfg.crop_size
    assert cfg.global_batch_size == 24
    assert CROP in cfg.train_dataloader.dataset.pipeline
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert CENTRE in loader.dataset.pipeline
    assert cfg.train_dataloader.sampler.drop_partial
    assert [schedule.type for schedule in cfg.param_scheduler] == ['PaperPolyLR']
    assert {**cfg.optim_wrapper.optimizer, 'lr': None} == dict(
        type='SGD', lr=None, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    assert cfg.protocol.preset == frame.preset
    assert build_protocol(cfg.protocol).policy.old == 'base'
    if 'domain' in protocol:
        assert cfg.protocol.split == 'legacy'
    # The deviations that are left cannot be avoided: no option is offered for them.
    assert not [deviation.name for deviation, _ in deviations_of(cfg) if deviation.offered]
    assert {'norm', 'first weights'} <= set(names(cfg))


@pytest.mark.parametrize(
    ('method', 'protocol', 'epochs', 'rates'),
    [
        ('mib', 'voc_15-1', 30, (0.01, 0.001)),
        ('plop', 'voc_10-1', 10, (0.01, 0.001)),
        ('rcil', 'voc_15-5', 30, (0.02, 0.001)),
        ('lwf', 'ade20k_50-50', 60, (0.01, 0.001)),
        ('rcil', 'cityscapes_domain_11-1', 50, (0.02, 0.004)),
    ],
)
def test_the_schedule_is_that_of_the_scripts(method, protocol, epochs, rates):
    cfg = composed(method, protocol)
    assert cfg.step_overrides['later'].max_epochs == epochs
    assert (cfg.step_overrides[0].lr, cfg.step_overrides['later'].lr) == rates
    built = build_protocol(cfg.protocol)
    batch = 24
    images = [5 * batch + 7] * len(built.steps)
    snapshot = dict(checkpoint='x.pth', num_classes=len(built.steps[0].seen))
    step = derive_step_config(cfg, built, 1, StepInputs(snapshot, snapshot, images), 'work_dirs/x')
    assert step.train_cfg.max_iters == step.param_scheduler[0].end == 5 * epochs
    assert step.train_dataloader.sampler.whole_batches == batch


@pytest.mark.parametrize(
    ('method', 'init'),
    [
        ('finetune', 'conv_default'),
        ('lwf', 'conv_default'),
        ('lwf_mc', 'conv_default'),
        ('ilt', 'conv_default'),
        ('mib', 'balanced'),
        ('plop', 'balanced'),
        ('rcil', 'copied_background'),
    ],
)
def test_methods_have_the_choices_of_their_code(method, init):
    cfg = composed(method, 'voc_15-1')
    found = method_of(cfg, 'voc_15-1')
    assert found['classifier_init'] == init
    if method == 'plop':
        assert found['name'] == 'plop_paper' and found['custom_hooks'][0]['median'] == 'official'
    if method == 'mib':
        assert found['distillers'][0]['loss']['loss_weight'] == 10.0
    if method == 'rcil':
        assert found['network_change'] == dict(
            type='ParallelBranches',
            parts=('backbone', 'decode_head'),
            eps_again=1e-5,
            draws='process',
        )


def test_a_config_without_it_is_told_apart_setting_by_setting():
    cfg = compose(dict(method='lwf', protocol='voc_15-1', dataset='cityscapes'))
    assert set(names(cfg)) == {
        'norm',
        'first weights',
        'activation',
        'dilation',
        'ASPP',
        'dropout',
        'training crop',
        'test geometry',
        'labels and means',
        'new rows',
        'learning rate',
        'epochs',
    }
    assert {'stem', 'second merge (RCIL)', 'precision'} <= set(
        names(compose(dict(method='rcil', protocol='voc_15-1')))
    )
    assert 'thresholds (PLOP)' in names(compose(dict(method='plop', protocol='voc_15-1')))
    assert 'split by city' in names(compose(dict(method='mib', protocol='cityscapes_domain_11-5')))
    assert notes_on_published(cfg) == []


@pytest.mark.parametrize(
    ('changes', 'name', 'words'),
    [
        ({'model.decode_head.dropout_ratio': 0.1}, 'dropout', 'dropout 0.1'),
        ({'model.backbone.contract_dilation': True}, 'dilation', '[1, 2, 2]'),
        ({'model.backbone.negative_slope': 0.0}, 'activation', 'ReLU'),
        ({'model.backbone.depth': 50}, 'backbone', 'LeakyResNet'),
        ({'protocol.preset': 'plop'}, 'labels and means', "'plop' for 'mib'"),
        ({'param_scheduler.0.type': 'PolyLR'}, 'learning rate', 'rate 0'),
        ({'param_scheduler': None}, 'learning rate', 'another'),
        ({'train_dataloader.sampler.drop_partial': False}, 'epochs', 'over the end'),
        ({'train_dataloader.dataset.pipeline.2.scale': 256}, 'training crop', 'another size'),
        ({'test_dataloader.dataset.pipeline': []}, 'test geometry', 'whole images'),
        ({'optim_wrapper.type': 'AmpOptimWrapper'}, 'precision', 'mixed'),
    ],
)
def test_what_options_take_back_is_named_in_the_log(changes, name, words):
    cfg = walk_config(
        arguments(method='lwf', protocol='voc_15-5', as_published=True, cfg_options=changes)
    )
    first, *lines = notes_on_published(cfg)
    assert first == ('as published: lwf on voc_15-5, after fcdl94/MiB; what still differs:')
    (line,) = [text for text in lines if text.startswith(f'as published: {name}: ')]
    assert words in line and '; theirs: ' in line
    # Beside that, what can never be had.
    assert len(lines) == 3


def arguments(**given):
    defaults = {'config': None, 'cfg_options': {}, 'as_published': False, **dict.fromkeys(KINDS)}
    return argparse.Namespace(**{**defaults, **given})


def test_a_config_file_keeps_its_places(tmp_path):
    base = ROOT / 'configs/rcil/rcil_deeplabv3_r101-d16_voc-15-1.py'
    path = tmp_path / 'mine.py'
    path.write_text(
        f"_base_ = '{base}'\n"
        "data = dict(data_root='/there')\n"
        'train_dataloader = dict(num_workers=9, dataset=dict(**data))\n'
        'test_dataloader = dict(dataset=dict(**data))\n'
        'randomness = dict(seed=7)\n'
        "protocol = dict(setting='disjoint')\n"
        "model = dict(backbone=dict(init_cfg=dict(checkpoint='/my/resnet101.pth')))\n"
    )
    plain = walk_config(arguments(config=str(path)))
    before = plain.to_dict()
    cfg = walk_config(arguments(config=str(path), as_published=True))
    assert plain.to_dict() == before
    assert cfg.train_dataloader.dataset.data_root == '/there'
    assert cfg.test_dataloader.dataset.data_root == '/there'
    assert cfg.train_dataloader.num_workers == 9 and cfg.randomness.seed == 7
    assert cfg.protocol.setting == 'disjoint'
    assert cfg.model.backbone.init_cfg.checkpoint == '/my/resnet101.pth'
    assert not [deviation.name for deviation, _ in deviations_of(cfg) if deviation.offered]
    assert Path(cfg.filename).name == 'mine_as-published.py'


def test_datasets_within_others_are_cropped_too():
    cfg = compose(dict(method='mib', protocol='voc_15-1'))
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[inner, inner])
    )
    found = as_published(cfg).train_dataloader.dataset
    assert 'pipeline' not in found and 'pipeline' not in found.dataset
    assert all(CROP in part.pipeline for part in found.dataset.datasets)


def test_a_model_and_a_schedule_that_were_chosen_stay():
    cfg = composed('mib', 'voc_15-1', model='deeplabv3_r18_os16', schedule='short')
    assert cfg.model.backbone.depth == 18 and cfg.step_overrides[0].max_iters == 100
    assert {'backbone', 'ASPP', 'activation'} <= set(names(cfg))


@pytest.mark.parametrize(
    ('method', 'protocol', 'preset'),
    [
        ('mib', 'voc_15-1', 'mib'),
        ('lwf', 'ade20k_100-10', 'mib'),
        ('ilt', 'voc_10-1', 'plop'),
        ('mib', 'cityscapes_domain_1-1', 'plop'),
        ('plop', 'voc_15-1', 'plop'),
        ('rcil', 'ade20k_100-5', 'plop'),
        ('caf', 'voc_15-1', 'mib'),
        ('mib_ewf', 'voc_15-1', 'plop'),
        ('reminder', 'voc_15-1', 'plop'),
        ('dft_star', 'voc_15-1', 'plop'),
        ('mib_awt', 'voc_15-1', 'plop'),
        ('plop_nest', 'voc_15-1', 'plop'),
        ('finetune', 'ade20k_100-5', 'plop'),
    ],
)
def test_labels_are_treated_as_in_the_code_that_has_the_protocol(method, protocol, preset):
    assert find_frame(method, protocol).preset == preset


def test_a_method_without_official_code_has_their_surroundings():
    cfg = composed('vdfd', 'cityscapes_domain_11-5')
    assert cfg.method.name == 'vdfd' and cfg.protocol.preset == 'plop'
    assert 'no official code' in notes_on_published(cfg)[0]
    assert 'method' in names(cfg)


@pytest.mark.parametrize(
    ('pieces', 'words'),
    [
        (dict(method='mib', protocol='embedded_11-5'), 'is over embedded'),
        (dict(method='m2kd', protocol='voc_15-5'), 'auxiliary head'),
    ],
)
def test_what_has_no_published_settings_is_refused(pieces, words):
    with pytest.raises(InputError, match=words):
        as_published(compose(pieces))
    with pytest.raises(InputError, match='method and protocol'):
        as_published(Config(dict(model=dict(type='EncoderDecoder'))))


def test_the_published_network_is_built_with_branches():
    init_default_scope('mmseg_cil')
    cfg = composed('rcil', 'voc_15-1')
    snapshot = dict(checkpoint='x.pth', num_classes=16)
    step = derive_step_config(
        cfg,
        build_protocol(cfg.protocol),
        1,
        StepInputs(snapshot, snapshot, [1000] * 6),
        'work_dirs/x',
    )
    with torch.device('meta'):
        network = MODELS.build(step.model)
    assert network.decode_head.conv_seg.out_channels == 17
    assert len(network._change.places) == 33 + 4


def thin_piece(folder):
    """A papers' network of a few channels, as a file like those of the models."""
    model = tiny_model()
    del model['auxiliary_head']
    norm = dict(type='BN', requires_grad=True)
    model['backbone'].update(type='LeakyResNet', contract_dilation=False)
    model['decode_head'] = dict(
        type='PaperASPPHead',
        in_channels=32,
        in_index=3,
        channels=8,
        dilations=(1, 2, 3, 4),
        pooling_size=8,
        num_classes=2,
        norm_cfg=norm,
        loss_decode=dict(type='CrossEntropyLoss'),
    )
    path = folder / 'thin.py'
    path.write_text(f'model = {model!r}\n')
    return str(path)


@pytest.fixture(scope='module')
def walk(tmp_path_factory):
    """Walks two tiny steps of VOC as published, with a method."""
    folder = tmp_path_factory.mktemp('published')
    data = make_data(folder / 'data')

    def run(method):
        places = dict(
            data_root=str(data),
            img_suffix='.png',
            ann_file='lists/train.txt',
            data_prefix=dict(img_path='images', seg_map_path='masks'),
        )
        cfg = compose(dict(method=method, protocol='voc_19-1'))
        cfg.protocol = dict(
            name='voc_tiny',
            dataset='voc',
            setting='overlapped',
            preset='default',
            steps=[['background', 'aeroplane', 'bicycle'], ['bird', 'boat']],
        )
        for name, file in (('train', 'train'), ('val', 'val'), ('test', 'val')):
            loader = cfg[f'{name}_dataloader']
            loader.update(num_workers=0)
            loader.dataset.update(places, ann_file=f'lists/{file}.txt')
        cfg = as_published(cfg, dict(model=thin_piece(folder)))
        cfg.merge_from_dict(
            {
                'global_batch_size': 4,
                'model.data_preprocessor.size': (32, 32),
                'train_dataloader.dataset.pipeline.2.scale': 32,
                'test_dataloader.dataset.pipeline.2.scale': 32,
            }
        )
        cfg.step_overrides = {0: dict(lr=0.01, max_epochs=2), 'later': dict(max_epochs=2)}
        cfg.as_published = notes_on_published(cfg)
        WalkRunner(cfg, folder / method).run()
        return folder / method

    return {method: run(method) for method in ('plop', 'rcil')}


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', ['plop', 'rcil'])
def test_a_walk_as_published(walk, method):
    work_dir = walk[method]
    scores = json.loads((work_dir / 'metrics.json').read_text())['steps']
    assert [len(score['seen']) for score in scores] == [3, 5]
    (log,) = (work_dir / 'step_00').glob('*/*.log')
    first = log.read_text().splitlines()[0]
    assert 'as published: ' in first and 'what still differs' in first
    cfg = Config.fromfile(work_dir / 'step_01' / 'config.py')
    assert cfg.custom_imports == dict(imports=[MODULE], allow_failed_imports=False)
    assert cfg.model.backbone.type == 'mmseg_cil.LeakyResNet'
    assert cfg.model.decode_head.type == 'mmseg_cil.PaperASPPHead'
    assert cfg.test_pipeline[2] == dict(type='mmseg_cil.ResizedCenterCrop', scale=32)
    init_default_scope('mmseg')
    network = MMSEG_MODELS.build(cfg.model)
    state = torch.load(work_dir / 'step_01' / 'checkpoint.pth', weights_only=True)['state_dict']
    network.load_state_dict(state)


@pytest.mark.slow
def test_pictures_of_the_report_show_what_was_scored(walk):
    """The centre of an image, as the network sees it, with a truth and a prediction of its size."""
    from PIL import Image

    work_dir = walk['plop']
    truths = sorted((work_dir / 'report' / 'samples').glob('*_truth.png'))
    assert truths
    for truth in truths:
        name = truth.name.removesuffix('_truth.png')
        files = [
            truth,
            truth.with_name(f'{name}.jpg'),
            work_dir / 'step_01' / 'predictions' / f'{name}.png',
        ]
        assert {Image.open(file).size for file in files} == {(32, 32)}
        assert set(np.unique(np.array(Image.open(truth)))) <= {*range(5), 255}


@pytest.mark.slow
def test_the_exported_step_loads_where_nothing_was_imported(walk):
    folder = walk['rcil'] / 'step_01'
    code = (
        'import sys, numpy as np\n'
        'from mmseg.apis import init_model, inference_model\n'
        'model = init_model(sys.argv[1] + "/config.py", sys.argv[1] + "/checkpoint.pth", "cpu")\n'
        'result = inference_model(model, np.zeros((32, 40, 3), np.uint8))\n'
        'print(tuple(result.pred_sem_seg.data.shape))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == '(1, 32, 32)'


def test_plain_parts_need_no_import():
    plain = dict(default_scope='mmseg', model=tiny_model(), test_pipeline=[dict(type='Resize')])
    assert with_own_parts(plain) == plain


def test_imports_of_the_user_stay():
    plain = dict(
        model=dict(backbone=dict(type='LeakyResNet')),
        custom_imports=dict(imports='mine', allow_failed_imports=True),
    )
    assert with_own_parts(plain)['custom_imports'] == dict(
        imports=['mine', MODULE], allow_failed_imports=True
    )
