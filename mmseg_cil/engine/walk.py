"""A walk before it starts: protocol, data and work directory, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmseg_cil.engine.record.images import ImagePrints
from mmseg_cil.protocols import Protocol


@dataclass(frozen=True)
class Walk:
    """The facts that are known of a walk before its first iteration.

    Attributes:
        cfg: The user's config, with types by their registered names.
        protocol: The protocol, which says which classes or domains come when.
        work_dir: The folder of all files of the walk.
        train_images: Number of training images of every step.
        test_images: Number of test images of every step.
        iterations: Training iterations of every step; 0 where a step does not train.
        palette: ``[r, g, b]`` of every class by its name.
        prints: Digests of the images and masks of the steps.
        given: The config as the user gave it, where it is another than ``cfg``.
    """

    cfg: Config
    protocol: Protocol
    work_dir: Path
    train_images: tuple[int, ...]
    test_images: tuple[int, ...]
    iterations: tuple[int, ...]
    palette: Mapping[str, list[int]]
    prints: ImagePrints
    given: Config | None = None

    @property
    def as_given(self) -> Config:
        """The config as the user gave it, from which fingerprints are taken."""
        return self.cfg if self.given is None else self.given

    @property
    def num_steps(self) -> int:
        """The number of steps of the walk."""
        return len(self.protocol.steps)

    def seen_names(self, step: int) -> list[str]:
        """Return the names of the classes after a step, in the order of the outputs."""
        return [self.protocol.taxonomy.names[i] for i in self.protocol.steps[step].seen]

    def trains(self, step: int) -> bool:
        """Return whether a step trains at all."""
        return self.iterations[step] > 0
