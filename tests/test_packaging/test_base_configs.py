"""The base configs load, combine, build with plain MMSegmentation and mean what they say."""

import itertools
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope

BASE = Path(__file__).resolve().parents[2] / 'configs' / '_base_'
MODELS = sorted(path.name for path in (BASE / 'models').glob('*.py'))
DATASETS = ('voc12aug.py', 'ade20k.py', 'cityscapes.py', 'voc_real_160.py')
SCHEDULES = ('voc.py', 'ade20k.py', 'cityscapes.py', 'short.py', 'voc_real.py', 'demo.py')
OUTPUT_STRIDE = {
    'fcn_r18-thin.py': 8,
    'pspnet_r50.py': 8,
    'fcn_r50.py': 8,
    'fcn_r18-thin_aux.py': 8,
    'upernet_r50.py': 32,
    'segformer_b0.py': 32,
    'segformer_b2.py': 32,
}


@pytest.fixture(autouse=True)
def plain_scope():
    """MMSegmentation's own scope; what other tests had set comes back."""
    before = DefaultScope.get_current_instance()
    init_default_scope('mmseg')
    yield
    if before is not None:
        init_default_scope(before.scope_name)


def build(name: str):
    from mmseg.registry import MODELS as REGISTRY

    import mmseg_cil.registry  # noqa: F401  (for the parts of ours in the papers' network)

    cfg = Config.fromfile(BASE / 'models' / name).model
    _plain_norm(cfg)
    return REGISTRY.build(cfg)


def _plain_norm(node) -> None:
    if isinstance(node, dict):
        if node.get('type') == 'SyncBN':
            node['type'] = 'BN'
        for value in node.values():
            _plain_norm(value)


def test_the_promised_models_are_there() -> None:
    assert set(MODELS) >= {
        'deeplabv3_r18_os16.py',
        'deeplabv3_r50-d16.py',
        'deeplabv3_r101-d16.py',
        'deeplabv3_r50-caffe.py',
        'deeplabv3plus_r50.py',
        'deeplabv3plus_r101.py',
        'pspnet_r50.py',
        'fcn_r50.py',
        'upernet_r50.py',
        'segformer_b0.py',
        'segformer_b2.py',
    }


@pytest.mark.parametrize('name', MODELS)
def test_models_build_with_the_output_stride_they_state(name: str) -> None:
    # On the meta device the 100-layer networks cost nothing; MiT reads numbers as it is built.
    with torch.device('cpu' if name.startswith('segformer') else 'meta'):
        model = build(name).to('meta').eval()
    with torch.device('meta'):
        features = model.backbone(torch.empty(1, 3, 128, 128))
    assert 128 // features[-1].shape[-1] == OUTPUT_STRIDE.get(name, 16)
    assert isinstance(model.decode_head.conv_seg, torch.nn.Conv2d)
    assert model.with_auxiliary_head == (
        name in {'pspnet_r50.py', 'fcn_r50.py', 'upernet_r50.py'} or name.endswith('_aux.py')
    )


@pytest.mark.parametrize('name', ['deeplabv3_r18_os16.py', 'segformer_b0.py'])
def test_small_models_run(name: str) -> None:
    torch.manual_seed(0)
    model = build(name).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 64, 64))
    assert logits.shape[:2] == (1, 21)
    assert torch.isfinite(logits).all()


def test_first_dilated_block_keeps_the_dilation_of_the_stage_before() -> None:
    """As torchvision's replace_stride_with_dilation, for which its weights are meant."""
    with torch.device('meta'):
        layer4 = build('deeplabv3_r50-d16.py').backbone.layer4
    assert [block.conv2.dilation for block in layer4] == [(1, 1), (2, 2), (2, 2)]


def test_caffe_backbone_strides_first_and_freezes_statistics() -> None:
    with torch.device('meta'):
        backbone = build('deeplabv3_r50-caffe.py').backbone
    block = backbone.layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    backbone.train()
    assert not block.norm1.training
    assert block.norm1.weight.requires_grad


def test_a_backbone_weight_file_is_given_by_one_option() -> None:
    cfg = Config.fromfile(BASE / 'models' / 'deeplabv3_r101-d16.py')
    assert cfg.model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth'
    )
    cfg.merge_from_dict({'model.backbone.init_cfg.checkpoint': 'r101.pth'})
    assert cfg.model.backbone.init_cfg.checkpoint == 'r101.pth'


@pytest.mark.parametrize(('dataset', 'schedule'), itertools.product(DATASETS, SCHEDULES))
def test_bases_combine_without_a_shared_key(dataset: str, schedule: str, tmp_path: Path) -> None:
    """MMEngine refuses a key that two bases of one config hold."""
    path = tmp_path / 'config.py'
    bases = [
        BASE / 'models' / 'deeplabv3_r18_os16.py',
        BASE / 'datasets' / dataset,
        BASE / 'schedules' / schedule,
        BASE / 'default_runtime.py',
    ]
    path.write_text(
        f'_base_ = {[str(base) for base in bases]}\n'
        'model = dict(data_preprocessor=dict(size=_base_.crop_size))\n'
        "step_overrides = {3: dict(max_epochs=10), 'later': dict(lr=0.002)}\n"
    )
    cfg = Config.fromfile(path)
    assert tuple(cfg.model.data_preprocessor.size) == cfg.crop_size
    assert set(map(str, cfg.step_overrides)) == {'0', '3', 'later'}
    assert cfg.step_overrides['later'].lr == 0.002
    cfg.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').optim_wrapper == cfg.optim_wrapper


@pytest.mark.parametrize('name', DATASETS)
def test_dataset_pipelines_build_and_read_masks_raw(name: str) -> None:
    from mmengine.dataset import Compose
    from mmengine.registry import DefaultScope

    import mmseg_cil.datasets  # noqa: F401  (registers the transforms)

    cfg = Config.fromfile(BASE / 'datasets' / name)
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        # The scope of a walk: VOC and ADE20K have a crop of ours.
        with DefaultScope.overwrite_default_scope('mmseg_cil'):
            Compose(pipeline)
        assert not any('reduce_zero_label' in transform for transform in pipeline)
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    assert cfg.val_dataloader.batch_size == 1
    assert cfg.test_dataloader == cfg.val_dataloader
    assert cfg.global_batch_size == (8 if name == 'voc_real_160.py' else 24)


@pytest.mark.parametrize(
    ('name', 'epochs'), [('voc.py', 30), ('ade20k.py', 60), ('cityscapes.py', 50)]
)
def test_schedules_are_the_published_ones(name: str, epochs: int) -> None:
    cfg = Config.fromfile(BASE / 'schedules' / name)
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    (poly,) = cfg.param_scheduler
    assert (poly.type, poly.power, poly.eta_min, poly.by_epoch) == ('PolyLR', 0.9, 0.0, False)
    assert cfg.step_overrides[0] == dict(lr=0.01, max_epochs=epochs)
    assert cfg.step_overrides['later'] == dict(lr=0.001, max_epochs=epochs)
