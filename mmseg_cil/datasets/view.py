"""A dataset as one step of a protocol sees it."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.registry import DefaultScope
from torch.utils.data import Dataset

from mmseg_cil.datasets.class_index import ClassIndex
from mmseg_cil.datasets.items import DatasetConfig, open_sources
from mmseg_cil.datasets.meaning import protocols_of
from mmseg_cil.datasets.member_labels import (
    PipelinesByData,
    build_pipelines,
    with_own_ids,
)
from mmseg_cil.datasets.members import Contents
from mmseg_cil.datasets.packed_images import PackedImages
from mmseg_cil.datasets.pipeline import PLACE, seeded
from mmseg_cil.datasets.sample_pipeline import SamplePipeline
from mmseg_cil.datasets.sampler import SampleKey
from mmseg_cil.datasets.walk_data import WalkData
from mmseg_cil.errors import InputError
from mmseg_cil.memory.replay import Replay, read_replay, rows_by_name
from mmseg_cil.protocols import Protocol
from mmseg_cil.protocols.listed import uses_config_dataset
from mmseg_cil.registry import DATASETS, SCOPE

_SPLITS = ('train', 'test')
# Greatest number of images in a row that a pipeline may give up (a crop without labels, say).
_MAX_REFETCH = 1000


@DATASETS.register_module()
class IncrementalDataset(Dataset):
    """The images of a step, with the labels of that step.

    The protocol decides which images belong to the step, from the classes that
    occur in the full masks. Labels are mapped by one table after the crop. Pixels
    that a transform before the mapping (``Pad``, ``RandomRotate``) fills with 255
    are void like any others, so a policy that trains void as background makes them
    background; pixels that the data preprocessor pads stay 255.

    A sample that is requested by a :class:`SampleKey` draws its augmentation from
    (seed, step, position), so it does not depend on the number of workers or
    ranks, or on whether training was resumed. A test sample that is requested by a
    plain index is drawn from (seed, step, index); such a training sample uses the
    current random state, as in MMSegmentation. (Using the current state is a choice:
    augmenting an image alike in every epoch would be worse.)

    A training view may replay exemplars. The exemplars come after the step's own
    images, as often as the dataset counts them, and have their own labels. An image
    that is both an image of the step and an exemplar comes once, as an exemplar: its
    labels include the new classes.

    Where steps have data sets of their own, a training view reads those of its step (and of the
    steps whose exemplars it replays), a test view those of all steps so far. Each data set has its
    own pipeline, and its masks are read by its own ids.

    Args:
        dataset: Config of any MMSegmentation dataset, ``ConcatDataset`` and
            ``RepeatDataset`` included, or several configs to pool. Images that
            occur several times count as often in training, and once in a test.
        protocol: The ``protocol`` of the config, or a built protocol.
        step: The step, from 0.
        split: ``'train'`` or ``'test'``.
        seed: Seed of the augmentation; not negative.
        cache_dirs: Folders for the class index if the data's own folder
            cannot be written.
        pipeline: The transforms. None: those of (the first) ``dataset``.
        skip_empty: Whether a step without images is a dataset of length 0
            rather than an error.
        exemplars: The images to replay, see :func:`mmseg_cil.memory.replay.read_replay`.
        reference: ``classes`` and ``void_ids`` of the training dataset, where
            they differ from this dataset's. Class ids are then those of the training
            dataset, and masks are read by the class names of their own dataset.
        images_of: A later step whose images stand in for the missing images of a first step that
            was trained elsewhere. The images have the labels of ``step``.
        whole: Whether the view reads the data sets of all steps, as counting of images needs.
        further_map: A transform behind ``LoadAnnotations`` in the pipelines of data sets that
            steps bring; ``pipeline`` has it already.
        keep_masks: Megabytes of decoded masks that each loader keeps.

    Attributes:
        data: The data sets that are read.
        images_of: The argument ``images_of``.
        protocol: The protocol for this dataset's masks.
        reference: The protocol for the training dataset's masks.
        classes: Names of the first dataset's classes, by mask id; empty if no dataset is read.
        reduce_zero_label: Whether these classes have the mask ids from 1 on.
        pipeline: The transforms of a sample.

    Raises:
        InputError: An argument or a file is wrong. Lists and masks are read only
            when the first sample, the length or :meth:`full_init` is requested.
    """

    def __init__(
        self,
        dataset: DatasetConfig | Sequence[DatasetConfig],
        protocol: Mapping[str, Any] | Protocol,
        step: int,
        split: str,
        seed: int = 0,
        cache_dirs: Sequence[str | os.PathLike[str]] = (),
        pipeline: Sequence[Any] | None = None,
        skip_empty: bool = False,
        exemplars: Mapping[str, Any] | None = None,
        reference: Mapping[str, Any] | None = None,
        images_of: int | None = None,
        whole: bool = False,
        further_map: Mapping[str, Any] | None = None,
        keep_masks: float = 0,
    ) -> None:
        if split not in _SPLITS:
            raise InputError(f'split must be one of {_SPLITS}, not {split!r}')
        if seed < 0:
            raise InputError(f'the seed of the data must not be negative, but is {seed}')
        uses_config = (
            uses_config_dataset(protocol)
            if isinstance(protocol, Mapping)
            else any(0 in each.data for each in protocol.steps)
        )
        sources = open_sources(dataset) if uses_config else []
        if isinstance(protocol, Mapping):
            self.reference, protocol = protocols_of(
                protocol, sources[0] if sources else None, reference
            )
        else:
            self.reference = protocol
        if not 0 <= step < len(protocol.steps):
            raise InputError(
                f'{protocol.name} has the steps 0..{len(protocol.steps) - 1}, not {step}'
            )
        self.protocol: Protocol = protocol
        self.step, self.split, self.seed = step, split, seed
        self.images_of = images_of
        self._skip_empty, self._exemplars = skip_empty, exemplars
        self.data = WalkData(protocol, step, split, self._places_read(whole), sources, cache_dirs)
        first = self.data.first
        self.classes = first.classes if first else ()
        self.reduce_zero_label = first.reduce_zero_label if first else False
        self._build_pipelines(pipeline, further_map, keep_masks)
        self._begin_empty()

    def _build_pipelines(
        self,
        pipeline: Sequence[Any] | None,
        further_map: Mapping[str, Any] | None,
        keep_masks: float,
    ) -> None:
        # Transforms that build others look for them in the default scope.
        with DefaultScope.overwrite_default_scope(SCOPE):
            self._pipelines = build_pipelines(
                self.data.members, self.data.labels, pipeline, further_map, self.split, keep_masks
            )
            self.pipeline: Any = SamplePipeline([], self.split)
        if len(self._pipelines) == 1:
            self.pipeline = next(iter(self._pipelines.values()))
        elif self._pipelines:
            self.pipeline = PipelinesByData(self._pipelines)

    def _places_read(self, whole: bool) -> frozenset[int]:
        """Return the data sets that this view reads."""
        steps = self.protocol.steps
        if whole:
            return frozenset(place for step in steps for place in step.data)
        source = self.step if self.images_of is None else self.images_of
        places = {*self.protocol.data_of_step(source, self.split)}
        if self._exemplars is not None:
            places |= {*self.protocol.data_of_step(self.step, 'test')}
        return frozenset(places)

    def _begin_empty(self) -> None:
        self._loaded = False
        self._images = PackedImages()
        self._own, self._replay = 0, Replay()
        self._shared = np.zeros(0, bool)

    @property
    def metainfo(self) -> dict[str, Any]:
        """Return names and colours of the classes seen up to this step, by model id."""
        seen = self.protocol.steps[self.step].seen
        names = self.protocol.taxonomy.names
        return dict(
            classes=tuple(names[class_id] for class_id in seen),
            palette=[list(self.data.palette[class_id]) for class_id in seen],
        )

    def palette_by_name(self) -> dict[str, list[int]]:
        """Return the colour of every class of the protocol, also of classes not seen yet."""
        names = self.protocol.taxonomy.names
        return {name: list(colour) for name, colour in zip(names, self.data.palette, strict=True)}

    def full_init(self) -> None:
        """Read the lists of images and the class index, and select the step's images.

        Raises:
            InputError: Files are missing or broken, masks hold unknown ids, or
                no image belongs to the step.
        """
        if self._loaded:
            return
        contents = self.data.read()
        source = self.step if self.images_of is None else self.images_of
        chosen = self.data.rows_of_step(contents, source)
        if not len(chosen) and not self._may_be_empty:
            raise InputError(self.data.without_images(self.step, len(contents.items.names)))
        self._own = len(chosen)
        if self._exemplars is not None:
            chosen = self._with_exemplars(self._exemplars, contents, chosen)
        self._images = PackedImages.of(chosen, contents, self.protocol)
        self._loaded = True

    def _with_exemplars(
        self, config: Mapping[str, Any], contents: Contents, own: np.ndarray
    ) -> np.ndarray:
        replay = read_replay(config, self.protocol, self.step, contents.items.names, own)
        if self.protocol.own_data:
            places = contents.places[replay.rows]
            replay = with_own_ids(replay, places, self.data.members, self.protocol, self.step)
        self._replay = replay.repeated(contents.items.times[replay.rows])
        self._shared = np.isin(self._replay.rows, own)
        own = own[~np.isin(own, replay.rows)]
        self._own = len(own)
        return np.concatenate([own, self._replay.rows])

    @property
    def num_own(self) -> int:
        """Return the number of the step's own images; exemplars have the indices after them."""
        self.full_init()
        return self._own

    def step_indices(self) -> list[int]:
        """Return the indices of the step's images, also of images that come as exemplars.

        The indices are for passes over the images. Where all images are repeated equally
        often (``RepeatDataset``), each image has one index.
        """
        own = self.num_own
        indices = np.concatenate([np.arange(own), own + np.flatnonzero(self._shared)])
        _, first, counts = np.unique(
            self._images.rows[indices], return_index=True, return_counts=True
        )
        if len(counts) and counts[0] > 1 and (counts == counts[0]).all():
            indices = np.sort(indices[first])
        return [int(index) for index in indices]

    def few_images(self, count: int, paths: Collection[str] = ()) -> IncrementalDataset:
        """Return a view of the first of the step's own images and of those with these paths."""
        few, own = copy.copy(self), self.num_own
        indices = np.union1d(np.arange(min(count, own)), self._images.find(paths))
        few._own, few._images = int((indices < own).sum()), self._images.pick(indices)
        replayed = indices[few._own :] - own
        few._replay, few._shared = self._replay.pick(replayed), self._shared[replayed]
        return few

    @property
    def _may_be_empty(self) -> bool:
        untrained = self.split == 'train' and not self.protocol.trains(self.step)
        return self._skip_empty or untrained

    def pipeline_of(self, place: int) -> SamplePipeline:
        """Return the transforms of a data set that the view reads (see :attr:`Step.data`)."""
        return self._pipelines[place]

    def images_of_step(self, step: int | None = None) -> list[str]:
        """Return the names of the images of a step, in this view's split.

        Args:
            step: The step; None: this view's step.

        Returns:
            The names, as often as the images count, without exemplars; empty
            where the step has no images.

        Raises:
            InputError: Files are missing or broken, or masks hold unknown ids.
        """
        step = self.step if step is None else step
        if step == self.step and self._loaded and self._exemplars is None:
            return self.image_names
        index, rows = self.index_of_step(step)
        return [index.names[row] for row in rows]

    def index_of_step(self, step: int) -> tuple[ClassIndex, np.ndarray]:
        """Return the class index of all images, and a step's rows (see :meth:`images_of_step`)."""
        contents = self.data.everything()
        return contents.index, self.data.rows_of_step(contents, step)

    def class_index(self) -> ClassIndex:
        """Return the index of all images of the dataset, also of images of other steps.

        Raises:
            InputError: Files are missing or broken, or masks hold unknown ids.
        """
        return self.data.everything().index

    def presence(self) -> np.ndarray:
        """Return the mask ids that occur in each image of this view.

        Returns:
            ``(len(self), 256)`` bool, by the value in the mask file.

        Raises:
            InputError: Files are missing or broken, or masks hold unknown ids.
        """
        self.full_init()
        return self.data.everything().index.presence[self._images.rows]

    def check_names(self) -> None:
        """Refuse images that a list of names, such as a memory, could not tell apart.

        Raises:
            InputError: Two images have one name.
        """
        rows_by_name(self.data.everything().index.names)

    def place_of(self, index: int) -> int:
        """Return the data set of one of the view's images, numbered as in :attr:`Step.data`."""
        self.full_init()
        return self._images.place(index)

    @property
    def image_names(self) -> list[str]:
        """Return the names of this view's images, in the order of their indices."""
        self.full_init()
        return [self._images.name(index) for index in range(len(self._images))]

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Return the input of the pipeline: paths of image and mask, and ``sample_idx``.

        Args:
            index: Index of the image; negative numbers count from the end.

        Raises:
            IndexError: There is no such image.
        """
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f'image {index} of {count}')
        index %= count
        info = self._images.info(index)
        info['sample_idx'] = index
        if len(self._pipelines) > 1:
            info[PLACE] = self._images.place(index)
        if index >= self._own:
            info['label_table'] = self._replay.tables[index - self._own]
        return info

    def __len__(self) -> int:
        self.full_init()
        return len(self._images)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Load and augment an image.

        Args:
            key: The image, or image and position in the training stream.

        Returns:
            The output of ``PackSegInputs``. The meta information of the data sample
            has the further key ``cil_domain``: the step that introduces the image's
            domain (0 in protocols by class).
        """
        if isinstance(key, SampleKey):
            index, position = key
        elif self.split == 'test':
            index, position = key, key % max(1, len(self))
        else:
            return self._load(int(key))
        with seeded(self.seed, self.step, int(position)):
            return self._load(int(index))

    def _load(self, index: int) -> dict[str, Any]:
        for _ in range(_MAX_REFETCH):
            packed = self.pipeline(self.get_data_info(index))
            if packed is not None:
                samples = packed['data_samples']
                for sample in samples if isinstance(samples, list) else [samples]:
                    sample.set_metainfo(self._metainfo(index))
                return packed
            if self.split == 'test':
                break
            index = int(np.random.randint(len(self)))
        raise InputError(
            f'the pipeline of the {self.split} split returns nothing for '
            f'{self.get_data_info(index)["img_path"]}; check its transforms'
        )

    def _metainfo(self, index: int) -> dict[str, Any]:
        info: dict[str, Any] = dict(cil_domain=self._images.domain(index))
        if self.protocol.own_data:
            info['cil_data'] = self._images.place(index)
            hidden = self.data.labels[info['cil_data']].hidden
            if hidden is not None and self.split == 'train':
                info['cil_hidden'] = hidden
        if index >= self._own:
            info['cil_hidden'] = self._replay.hidden[index - self._own]
        return info
