"""A pass of a step's finished network over some of the step's images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mmengine.device import get_device
from mmengine.dist import all_gather_object, get_rank, get_world_size

from mmseg_cil.datasets.passes import pass_over, seeded_images
from mmseg_cil.datasets.pipeline import without_augmentation
from mmseg_cil.engine.export.checkpoint import CHECKPOINT_NAME
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.walk import Walk
from mmseg_cil.models.teacher import Teacher

Found = TypeVar('Found')


def over_images(
    walk: Walk,
    step: int,
    view: Any,
    indices: Sequence[int],
    read: Callable[[Teacher, Any, int], Found],
) -> dict[int, Found]:
    """Return what is read of each image with the network of a step, by the image's index.

    Every process reads a part of the images; the result is equal on all processes.

    Args:
        walk: The walk.
        step: A step that has been trained.
        view: View of the step's training images.
        indices: Different indices in the view.
        read: Function of the network, a batch of a single image, unaugmented, and the image's
            index.
    """
    mine = sorted(indices)[get_rank() :: get_world_size()]
    folder = step_folder(walk.work_dir, step)
    network = Teacher(
        walk.cfg.model.to_dict(),
        str(folder / CHECKPOINT_NAME),
        num_classes=len(walk.protocol.steps[step].seen),
    )
    network.network.to(get_device())
    # Images are read one by one: sizes differ, and a result must not depend on other images.
    loader = pass_over(
        seeded_images(without_augmentation(view), mine),
        int(walk.cfg.train_dataloader.get('num_workers') or 0),
    )
    part = {index: read(network, batch, index) for index, batch in zip(mine, loader, strict=True)}
    result: dict[int, Found] = {}
    for share in all_gather_object(part):
        result.update(share)
    return result
