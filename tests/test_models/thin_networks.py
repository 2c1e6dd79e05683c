"""Thin networks of every kind of head, and small batches for them."""

import copy

import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.registry import MODELS

NORM = dict(type='BN', requires_grad=True)
RESNET = dict(
    type='ResNet',
    depth=18,
    base_channels=8,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    strides=(1, 2, 2, 1),
    dilations=(1, 1, 1, 2),
    norm_cfg=NORM,
    contract_dilation=True,
)
MIT = dict(
    type='MixVisionTransformer',
    embed_dims=8,
    num_layers=[1, 1, 1, 1],
    num_heads=[1, 1, 1, 1],
    sr_ratios=[8, 4, 2, 1],
)
DEEP = dict(in_channels=64, in_index=3, channels=12)
STAGES = dict(in_index=[0, 1, 2, 3], channels=12)
HEADS = {
    'ASPPHead': dict(**DEEP, dilations=(1, 2)),
    'DepthwiseSeparableASPPHead': dict(**DEEP, dilations=(1, 2), c1_in_channels=8, c1_channels=4),
    'PSPHead': dict(**DEEP, pool_scales=(1, 2)),
    'FCNHead': dict(**DEEP, num_convs=1),
    'UPerHead': dict(**STAGES, in_channels=[8, 16, 32, 64], pool_scales=(1, 2)),
    'SegformerHead': dict(**STAGES, in_channels=[8, 8, 8, 8]),
}
AUXILIARIES = ('none', 'single', 'list')
UNKD = dict(type='LogitDistiller', loss=dict(type='UnbiasedKnowledgeDistillationLoss'))


def network(head='FCNHead', auxiliary='none', loss='UnbiasedCrossEntropyLoss', **head_changes):
    """Config of a plain EncoderDecoder; its number of classes is a placeholder."""
    common = dict(num_classes=19, loss_decode=dict(type=loss), norm_cfg=NORM)
    mit = head == 'SegformerHead'

    def fcn(index):
        return dict(
            common,
            type='FCNHead',
            in_channels=8 if mit else 8 * 2**index,
            in_index=index,
            channels=6,
            num_convs=1,
            loss_decode=dict(type=loss, loss_weight=0.4),
        )

    heads = {'none': None, 'single': fcn(2), 'list': [fcn(1), fcn(2)]}
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32), seg_pad_val=255),
        backbone=copy.deepcopy(MIT if mit else RESNET),
        decode_head=dict(common, type=head, **{**copy.deepcopy(HEADS[head]), **head_changes}),
        auxiliary_head=heads[auxiliary],
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )


def segmentor(config, counts, has_background=True, class_steps=None, index=None, **arguments):
    """Our segmentor at the last step of a walk with so many new classes a step."""
    class_steps = class_steps or [k for k, count in enumerate(counts) for _ in range(count)]
    config = copy.deepcopy(config)
    heads = config['auxiliary_head']
    for one in [config['decode_head'], *(heads if isinstance(heads, list) else [heads])]:
        if one is not None:
            one['num_classes'] = len(class_steps)
    step = dict(
        index=len(counts) - 1 if index is None else index,
        class_steps=class_steps,
        has_background=has_background,
        old_labels_hidden=has_background,
    )
    config.update(type='IncrementalEncoderDecoder', step=step, **arguments)
    init_default_scope('mmseg_cil')
    return MODELS.build(ConfigDict(config))


def base_step(config, path, count=3, **arguments):
    """A network of step 0 with lively weights, saved in plain form."""
    torch.manual_seed(0)
    model = segmentor(config, [count], **arguments)
    model.init_weights()
    with torch.no_grad():
        for head in model.heads.values():
            head.conv_seg.weight.normal_()
            head.conv_seg.bias.normal_()
    torch.save(dict(state_dict=plain_state_dict(model.state_dict()), meta={}), path)
    return model.eval()


def snapshot(path, num_classes):
    return dict(checkpoint=str(path), num_classes=num_classes)


def next_step(config, path, counts=(3, 2), distillers=(UNKD,), **arguments):
    """The step after :func:`base_step`, which is its teacher too."""
    old = snapshot(path, sum(counts[:-1]))
    torch.manual_seed(1)
    model = segmentor(
        config, list(counts), previous=old, teacher=old, distillers=list(distillers), **arguments
    )
    model.init_weights()
    return model


def batch(num_classes, size=32, count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, size, size, generator=generator)
    samples = []
    for _ in range(count):
        labels = torch.randint(0, num_classes, (1, size, size), generator=generator)
        labels[:, :2] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        shape = (size, size)
        sample.set_metainfo(dict(img_shape=shape, ori_shape=shape, pad_shape=shape))
        samples.append(sample)
    return images, samples
