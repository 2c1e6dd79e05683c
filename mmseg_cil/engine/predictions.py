"""Predictions on a few fixed images after every step, for the report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from torch import nn

from mmseg_cil.engine.data import dataset_of_step
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.sample_pictures import as_scored, image_and_truth, sample_names
from mmseg_cil.engine.walk import Walk
from mmseg_cil.registry import DATASETS
from mmseg_cil.visualization.samples import keep_sample, list_samples, write_prediction


def choose_samples(
    protocol: Any, presence: np.ndarray, images: np.ndarray, count: int = 6
) -> list[int]:
    """Pick images that show the classes of all steps.

    Steps take turns, each with the image that shows most of its new classes
    (then most classes at all, then the first); a domain-incremental walk, where
    classes do not tell steps apart, takes images at even distances.

    Args:
        protocol: The walk's protocol.
        presence: ``(N, 256)`` bool by mask id, of the images in ``images``.
        images: ``(N,)`` indices to choose from.
        count: Number of images to pick.

    Returns:
        At most ``count`` of ``images``, in the order of choice.
    """
    if protocol.kind == 'domain':
        picks = np.linspace(0, len(images) - 1, num=min(count, len(images))).round().astype(int)
        return [int(images[i]) for i in dict.fromkeys(picks.tolist())]
    ids = [
        [
            protocol.taxonomy.mask_ids[c]
            for c in step.new
            if not (protocol.taxonomy.has_background and c == 0)
        ]
        for step in protocol.steps
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


def predict_samples(
    model: nn.Module,
    walk: Walk,
    step: int,
    is_main: bool,
    caches: Path | None = None,
    most: int | None = None,
) -> list[str]:
    """Write the predictions of a step on the fixed images, as protocol class ids.

    A picture that cannot be drawn is left out with a warning in the log: a picture ends no walk.

    Args:
        model: Network with the step's weights.
        walk: The walk.
        step: The step.
        is_main: Whether this is rank 0, which alone draws.
        caches: Work directory with the class index. The walk's by default.
        most: Number of images to predict; the others are drawn without a prediction. All by
            default.

    Returns:
        A note for each picture that could not be drawn, with the reason.
    """
    notes: list[str] = []
    if is_main:
        try:
            _predict_samples(model, walk, step, caches or walk.work_dir, most, notes)
        except Exception as error:
            notes.append(f'the pictures of step {step}: {type(error).__name__}: {error}')
    for note in notes:
        print_log(f'the report goes without {note}', 'current', logging.WARNING)
    return notes


def _predict_samples(
    model: nn.Module, walk: Walk, step: int, caches: Path, most: int | None, notes: list[str]
) -> None:
    last = walk.num_steps - 1
    view = DATASETS.build(
        dataset_of_step(walk.cfg, last, 'test', str(caches), walk.protocol.pools_splits)
    )
    chosen = choose_samples(view.protocol, view.presence(), np.arange(len(view)))
    names = [view.image_names[index] for index in chosen]
    classes = np.array([*walk.protocol.steps[step].seen], dtype=np.uint8)
    bgr = _loads_blue_first(walk, view)
    model.eval()
    kept: list[dict[str, str]] = []
    for place, (index, own, name) in enumerate(
        zip(chosen, names, sample_names(names), strict=True)
    ):
        try:
            image, truth = image_and_truth(view, index, bgr)
            if most is not None and place >= most:
                kept.append(keep_sample(walk.work_dir, name, image, truth))
                continue
            sample = view[index]
            with torch.no_grad():
                result = model.test_step(pseudo_collate([sample]))[0]  # type: ignore[operator]
            prediction = result.pred_sem_seg.data.squeeze(0).cpu().numpy()
            if prediction.shape != truth.shape:
                image, truth = as_scored(sample, walk.protocol.steps[last].seen, bgr)
            kept.append(keep_sample(walk.work_dir, name, image, truth))
            write_prediction(step_folder(walk.work_dir, step), name, classes[prediction])
        except Exception as error:
            notes.append(f'the picture of {own}: {type(error).__name__}: {error}')
    list_samples(walk.work_dir, kept)


def _loads_blue_first(walk: Walk, view: Any) -> bool:
    """Return whether three bands are blue, green, red: by MMCV's loader, or as the model asks."""
    asked = (walk.cfg.model.get('data_preprocessor') or {}).get('bgr_to_rgb')
    return bool(asked) or any(
        isinstance(transform, LoadImageFromFile) for transform in view.pipeline.transforms
    )
