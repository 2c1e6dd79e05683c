"""A dataset and a config so small that a walk of three steps takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

from mmseg_cil.engine.config.compose import read_piece
from mmseg_cil.engine.config.protocol_pieces import settled
from mmseg_cil.engine.paths import step_folder

CLASSES = ('background', 'red', 'green', 'blue', 'grey')
PALETTE = [[0, 0, 0], [200, 30, 30], [30, 200, 30], [30, 30, 200], [128, 128, 128]]
STEPS = [['background', 'red', 'green'], ['blue'], ['grey']]
#: The root of the checkout, if this package lies in a checkout.
ROOT = Path(__file__).resolve().parents[2]


def write_images(root: Path, split: str, count: int, seed: int) -> None:
    """Draw pictures with two rectangles each, coloured (with noise) by their class."""
    rng = np.random.default_rng(seed)
    names = []
    for folder in ('images', 'masks', 'lists'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        mask = np.zeros((32, 40), np.uint8)
        for offset, class_id in ((2, 1 + i % 4), (22, 1 + (i // 2) % 4)):
            top = int(rng.integers(2, 14))
            mask[top : top + 14, offset : offset + 14] = class_id
            mask[top, offset : offset + 14] = 255
        colours = np.array([*PALETTE, *[[90, 90, 90]] * 251], np.float64)[mask]
        image = np.clip(colours + rng.normal(0, 20, colours.shape), 0, 255).astype(np.uint8)
        name = f'{split}_{i:03d}'
        Image.fromarray(image).save(root / 'images' / f'{name}.png')
        Image.fromarray(mask).save(root / 'masks' / f'{name}.png')
        names.append(name)
    (root / 'lists' / f'{split}.txt').write_text('\n'.join(names) + '\n')


def make_data(root: Path) -> Path:
    """Draw sixteen training and eight test pictures into a folder, and return the folder."""
    write_images(root, 'train', 16, seed=0)
    write_images(root, 'val', 8, seed=1)
    return root


def tiny_model() -> dict[str, Any]:
    """Return a ResNet-18 of four base channels with two heads."""
    norm = dict(type='BN', requires_grad=True)
    head = dict(
        type='FCNHead',
        in_channels=32,
        in_index=3,
        channels=8,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=2,
        norm_cfg=norm,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0),
    )
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor',
            mean=[110.0] * 3,
            std=[60.0] * 3,
            bgr_to_rgb=True,
            pad_val=0,
            seg_pad_val=255,
            size=(24, 24),
        ),
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=4,
            stem_channels=4,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 2),
            norm_cfg=norm,
            norm_eval=False,
            style='pytorch',
            contract_dilation=True,
        ),
        decode_head=head,
        auxiliary_head=dict(
            head,
            in_channels=16,
            in_index=2,
            loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
        ),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )


def tiny_loaders(data_root: str | Path) -> dict[str, Any]:
    """Return the loaders of :func:`make_data`: batches of four, cropped to 24 x 24."""
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    train = [
        *load,
        dict(type='RandomCrop', crop_size=(24, 24)),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackSegInputs'),
    ]
    dataset = dict(
        type='BaseSegDataset',
        data_root=str(data_root),
        img_suffix='.png',
        seg_map_suffix='.png',
        metainfo=dict(classes=CLASSES, palette=PALETTE),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
    )
    return dict(
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=dict(dataset, ann_file='lists/train.txt', pipeline=train),
        ),
        test_dataloader=dict(
            batch_size=1,
            num_workers=0,
            dataset=dict(
                dataset, ann_file='lists/val.txt', pipeline=[*load, dict(type='PackSegInputs')]
            ),
        ),
    )


def tiny_config(
    data_root: str | Path, method: str | Mapping[str, Any] = 'mib', **changes: object
) -> Config:
    """Return a config of the walk ``STEPS`` with :func:`tiny_model`.

    The first step has six iterations, every later one four.

    Args:
        data_root: Folder of the data, from :func:`make_data`.
        method: The name of a piece in ``configs/_base_/methods``, or ``method`` of a config.
        **changes: Values by their dotted keys, as in ``--cfg-options``.
    """
    settings = read_piece('method', method)['method'] if isinstance(method, str) else method
    cfg = Config(
        dict(
            **tiny_loaders(data_root),
            default_scope='mmseg_cil',
            protocol=dict(name='tiny', dataset='tiny', steps=STEPS, setting='overlapped'),
            method=settled(settings, 'tiny'),
            global_batch_size=4,
            model=tiny_model(),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4),
            ),
            param_scheduler=[
                dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=6, by_epoch=False)
            ],
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=6),
            step_overrides={0: dict(max_iters=6), 'later': dict(lr=0.02, max_iters=4)},
            default_hooks=dict(
                timer=dict(type='IterTimerHook'),
                logger=dict(type='LoggerHook', interval=1),
                param_scheduler=dict(type='ParamSchedulerHook'),
                checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
            ),
            log_processor=dict(by_epoch=False, window_size=1),
            randomness=dict(seed=3),
            # Tests of the rehearsal switch it on.
            rehearsal=False,
            log_level='WARNING',
        )
    )
    cfg.merge_from_dict(changes)
    return cfg


def weights(work_dir: Path, step: int) -> dict[str, torch.Tensor]:
    """Return the state dict of a step's checkpoint."""
    path = step_folder(work_dir, step) / 'checkpoint.pth'
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)['state_dict']
    return state
