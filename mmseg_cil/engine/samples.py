"""Predictions on a few fixed images after every step, for the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch import nn

from mmseg_cil.engine.step_config import dataset_of_step, step_folder
from mmseg_cil.engine.walk import Walk
from mmseg_cil.protocols import Protocol
from mmseg_cil.registry import DATASETS
from mmseg_cil.visualization.samples import write_prediction, write_sample


def choose_samples(protocol: Any, presence: np.ndarray, images: np.ndarray,
                   count: int = 6) -> list[int]:
    """Picks images that show the classes of all steps.

    Steps take turns, each with the image that shows most of its new classes
    (then most classes at all, then the first); a domain-incremental walk, where
    classes do not tell steps apart, takes images at even distances.

    Args:
        protocol: The walk's protocol.
        presence: ``(N, 256)`` bool by mask id, of the images in ``images``.
        images: ``(N,)`` indices to choose from.
        count: How many.

    Returns:
        At most ``count`` of ``images``, in the order of choice.
    """
    if protocol.kind == 'domain':
        picks = np.linspace(0, len(images) - 1, num=min(count, len(images))).round().astype(int)
        return [int(images[i]) for i in dict.fromkeys(picks.tolist())]
    ids = [
        [protocol.taxonomy.mask_ids[c] for c in step.new
         if not (protocol.taxonomy.has_background and c == 0)] for step in protocol.steps
    ]
    chosen: list[int] = []
    for turn in range(count * max(1, len(ids))):
        if len(chosen) == min(count, len(images)):
            break
        wanted = [i for i in ids[turn % len(ids)] if i is not None]
        score = presence[:, wanted].sum(1) * 1000 + presence[:, :255].sum(1)
        score[chosen] = -1
        best = int(score.argmax())
        if wanted and presence[best, wanted].any():
            chosen.append(best)
    return [int(images[i]) for i in chosen]


def predict_samples(model: nn.Module, walk: Walk, step: int, is_main: bool) -> None:
    """Writes the predictions of a step on the fixed images, as protocol class ids."""
    if not is_main:
        return
    last = walk.num_steps - 1
    config = dataset_of_step(walk.cfg, last, 'test', str(walk.work_dir),
                             walk.protocol.pools_splits)
    view = DATASETS.build(config)
    chosen = choose_samples(view.protocol, view.presence(), np.arange(len(view)))
    classes = np.array([*walk.protocol.steps[step].seen], dtype=np.uint8)
    model.eval()
    for index in chosen:
        name = view.image_names[index].replace('/', '_')
        image, truth = _image_and_truth(view.get_data_info(index), view.protocol)
        sample = view[index]
        with torch.no_grad():
            result = model.test_step(pseudo_collate([sample]))[0]  # type: ignore[operator]
        prediction = result.pred_sem_seg.data.squeeze(0).cpu().numpy()
        if prediction.shape != truth.shape:
            image, truth = _as_scored(sample, np.array(walk.protocol.steps[last].seen))
        write_sample(walk.work_dir, name, image, truth)
        write_prediction(step_folder(walk.work_dir, step), name, classes[prediction])


def _as_scored(sample: dict[str, Any], classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGB image and mask of class ids of what a pipeline makes of both, such as a centre crop.

    Args:
        sample: Of the test view of the last step.
        classes: Protocol class id of every label.
    """
    labels = sample['data_samples'].gt_sem_seg.data.squeeze(0).numpy()
    table = np.full(256, 255, dtype=np.uint8)
    table[:len(classes)] = classes
    # MMCV loads images as blue, green, red.
    return np.ascontiguousarray(sample['inputs'].numpy()[::-1].transpose(1, 2, 0)), table[labels]


def _image_and_truth(info: dict[str, Any], protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """RGB image ``(H, W, 3)`` and mask ``(H, W)`` of protocol class ids, 255 = void."""
    table = np.full(256, 255, dtype=np.uint8)
    for class_id, mask_id in enumerate(protocol.taxonomy.mask_ids):
        if mask_id is not None:
            table[mask_id] = class_id
    image = np.array(Image.open(info['img_path']).convert('RGB'))
    return image, table[np.array(Image.open(info['seg_map_path']))]
