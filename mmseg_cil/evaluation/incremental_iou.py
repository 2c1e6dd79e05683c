"""The metric that evaluates a step: IoU per class, old, new, all, base and later."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.evaluation.confusion import Absent, pair_counts, require_known_ids
from mmseg_cil.evaluation.confusion_shares import confusion_shares
from mmseg_cil.evaluation.further_scores import FURTHER_NAMES, further_entry
from mmseg_cil.evaluation.step_scores import Counts, Old, ScoreSettings, step_entry
from mmseg_cil.registry import METRICS
from mmseg_cil.utils.harmonic import HARMONIC


@METRICS.register_module()
class IncrementalIoUMetric(BaseMetric):
    """The metric that evaluates the network of one step of a walk.

    The metric keeps one tensor of counts on the device of the predictions. Adding
    an image to the counts reads nothing back from the device; :meth:`evaluate` sums
    the counts over the processes once. The ranks may hold different numbers of
    images, also none, so a sampler that does not pad gives exact values.

    After :meth:`evaluate`, on every rank, ``result`` is this step's entry in
    ``metrics.json``: fractions in [0, 1], None where undefined. MMEngine receives
    the same fractions in a flat dict, without the undefined ones.

    Args:
        class_steps: (C,) for each model id the step that added it.
        step: k, the step just finished.
        has_background: Whether model id 0 is the background.
        num_domains: 1 in a walk over classes. step + 1 in a walk over domains:
            the counts are then kept per step, by the ``cil_domain`` of a sample.
        old: ``'previous'`` or ``'base'``, see
            :class:`~mmseg_cil.evaluation.step_scores.ScoreSettings`.
        background_in_means: Whether ``mIoU`` and ``groups`` count the background.
        absent: ``'skip'``, ``'union'`` or ``'zero'``: the IoU of a class without a
            true pixel, see :func:`~mmseg_cil.evaluation.confusion.iou_from_confusion`.
        eps: Added to the denominators; 1e-6 gives MiB's numbers to the last digit.
        ignore_index: The label of pixels that do not count.
        introduced: Names of the classes or domains that each of the steps 0..k added,
            for the entry; needed in a walk over domains, whose names no dataset's
            metainfo holds.
        log_classes: Whether to log the table of classes.
        iou_metrics: Names of metrics. ``'mDice'`` and ``'mFscore'`` add further scores, see
            :func:`~mmseg_cil.evaluation.further_scores.further_entry`.
        beta: Weight of the recall in the F-score.
        data_sets: Names of the data sets of the walk, where there are several. The entry then
            holds the scores on each data set besides the pooled scores, by the ``cil_data`` of a
            sample.
        **kwargs: ``prefix`` and the other arguments of MMEngine's ``BaseMetric``.

    Raises:
        InputError: An argument contradicts another argument or is out of range.
    """

    # Names have no prefix ('mIoU_old') unless one is configured.
    default_prefix = ''

    def __init__(
        self,
        class_steps: Sequence[int],
        step: int,
        has_background: bool,
        num_domains: int = 1,
        old: Old = 'previous',
        background_in_means: bool = True,
        absent: Absent = 'skip',
        eps: float = 0.0,
        ignore_index: int = 255,
        introduced: Sequence[Sequence[str]] | None = None,
        log_classes: bool = True,
        iou_metrics: Sequence[str] = ('mIoU',),
        beta: float = 1.0,
        data_sets: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.class_steps = tuple(class_steps)
        self.step = step
        self.has_background = has_background
        self.num_domains = num_domains
        self.settings = ScoreSettings(old, background_in_means, absent, eps)
        self.ignore_index = ignore_index
        self.introduced = introduced
        self.log_classes = log_classes
        self.iou_metrics, self.beta = tuple(iou_metrics), beta
        self.data_sets = tuple(data_sets)
        self.result: dict[str, Any] | None = None
        #: int64 (domains, C, C) [true, predicted] of the last evaluation.
        self.confusion: Counts | None = None
        self._counts: Tensor | None = None
        self._images: list[int] = []
        self._check_arguments()
        self._reset()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Add the images of one batch to the counts, without waiting for a device.

        Args:
            data_batch: Not used.
            data_samples: For each image ``pred_sem_seg`` and ``gt_sem_seg`` with
                ``data`` (1, H, W) of model ids, and ``cil_domain`` (int) in a
                walk over domains.

        Raises:
            InputError: A sample lacks one of these entries, or the shapes differ.
        """
        for sample in data_samples:
            pred, label = _ids(sample, 'pred_sem_seg'), _ids(sample, 'gt_sem_seg')
            if pred.shape != label.shape:
                raise InputError(
                    f'{_image(sample)}: prediction {tuple(pred.shape)} and label '
                    f'{tuple(label.shape)} differ in shape; the test pipeline must load the '
                    f'annotation after the resize, so that labels keep the size of the image'
                )
            group = self._group(sample)
            counts = pair_counts(
                pred, label.to(pred.device, non_blocking=True), self.num_classes, self.ignore_index
            )
            if self._counts is None:
                self._counts = counts.new_zeros(self._num_groups, len(counts))
            self._counts[group] += counts
            self._images[group] += 1

    def evaluate(self, size: int) -> dict[str, float]:
        """Sum the counts over all processes and compute every score.

        Args:
            size: Number of images of the whole test set, over all processes.

        Returns:
            Percentages by name, as MMSegmentation's ``IoUMetric`` gives them: ``mIoU`` (of all
            seen classes), ``mIoU_old``, ``mIoU_new``, ``mIoU_base``, ``mIoU_later``, ``hIoU``
            (harmonic mean of old and new), ``mAcc``, ``aAcc``; undefined scores are left out.
            (``result`` holds fractions, as the files of a walk do.)

        Raises:
            InputError: A label or a prediction is no class of this step.
        """
        bins = self.num_classes**2 + 2
        counts = self._counts
        if counts is None:  # this rank held no image
            counts = torch.zeros(self._num_groups, bins, dtype=torch.int64)
        images = torch.tensor(self._images, dtype=torch.int64, device=counts.device)
        total = torch.cat([counts, images[:, None]], dim=1)
        self._reset()
        all_reduce(total)
        total = total.cpu()
        require_known_ids(int(total[:, bins - 1].sum()), self.num_classes, self.ignore_index)
        self._check_size(int(total[:, bins].sum()), size)
        # (domains, data sets, true, predicted)
        groups = total[:, : bins - 2].reshape(
            self.num_domains, -1, self.num_classes, self.num_classes
        )
        confusion = groups.sum(dim=1)
        images = total[:, bins].reshape(self.num_domains, -1)
        self.result = step_entry(
            confusion.numpy(),
            images.sum(dim=1).tolist(),
            self.class_steps,
            self.step,
            self._names(),
            self.has_background,
            self.settings,
            self.introduced,
        )
        self.result |= further_entry(
            confusion.numpy(),
            self.class_steps,
            self.step,
            self._names(),
            self.has_background,
            self.settings,
            self.iou_metrics,
            self.beta,
        )
        self.confusion = confusion.numpy()
        if self.num_domains == 1:
            self.result['confusion_shares'] = confusion_shares(
                self.confusion[0], self.class_steps, self.step, self.has_background
            )
        if self.data_sets:
            self.result['data_sets'] = self._by_data_set(groups.sum(dim=0), images.sum(dim=0))
        if self.log_classes:
            print_log(f'step {self.step}, per class:\n{_class_table(self.result)}', 'current')
        scores = _flat(self.result)
        return {f'{self.prefix}/{k}' if self.prefix else k: v for k, v in scores.items()}

    def compute_metrics(self, results: list) -> dict:
        """Raise an error: :meth:`evaluate` works on counts, not on a list of results."""
        raise NotImplementedError('IncrementalIoUMetric computes its scores in evaluate()')

    @property
    def num_classes(self) -> int:
        """Return C, the number of model outputs at this step."""
        return len(self.class_steps)

    @property
    def _num_groups(self) -> int:
        return self.num_domains * max(1, len(self.data_sets))

    def _by_data_set(self, confusion: Tensor, images: Tensor) -> dict[str, Any]:
        """Return, by name, the scores on every data set that has test images."""
        result = {}
        for name, counts, number in zip(
            self.data_sets, confusion.numpy(), images.tolist(), strict=True
        ):
            if number:
                entry = step_entry(
                    counts[None],
                    [number],
                    self.class_steps,
                    self.step,
                    self._names(),
                    self.has_background,
                    self.settings,
                )
                result[name] = {key: entry[key] for key in ('images', 'mIoU', 'IoU')}
        return result

    def _reset(self) -> None:
        self._counts = None
        self._images = [0] * self._num_groups

    def _check_arguments(self) -> None:
        if not self.class_steps:
            raise InputError('class_steps is empty; it needs one step index a model output')
        if min(self.class_steps) < 0 or max(self.class_steps) > self.step:
            raise InputError(
                f'class_steps {self.class_steps} must lie in 0..{self.step}, for this is '
                f'step {self.step} and later classes have no model output yet'
            )
        if self.num_domains not in (1, self.step + 1):
            raise InputError(
                f'num_domains is {self.num_domains}; at step {self.step} it is 1 (a walk over '
                f'classes) or {self.step + 1} (a walk over domains, one group a step)'
            )
        if self.introduced is not None and len(self.introduced) != self.step + 1:
            raise InputError(
                f'introduced names {len(self.introduced)} steps; step {self.step} needs '
                f'{self.step + 1}, one list for each of the steps so far'
            )

    def _group(self, sample: dict) -> int:
        """Return the row of counts of an image, by its domain and data set."""
        domain = self._domain(sample)
        if not self.data_sets:
            return domain
        place = sample.get('cil_data')
        if place is None or not 0 <= place < len(self.data_sets):
            raise InputError(
                f'{_image(sample)}: cil_data is {place}, but there are {len(self.data_sets)} data '
                'sets; load the test set with IncrementalDataset, which writes it into every sample'
            )
        return domain * len(self.data_sets) + int(place)

    def _domain(self, sample: dict) -> int:
        if self.num_domains == 1:
            return 0
        domain = sample.get('cil_domain')
        if domain is None or not 0 <= domain < self.num_domains:
            raise InputError(
                f'{_image(sample)}: cil_domain is {domain}, but step {self.step} knows the domains '
                f'of the steps 0..{self.step}; load the test set with IncrementalDataset at this '
                f'step, which writes it into every sample'
            )
        return int(domain)

    def _check_size(self, counted: int, size: int) -> None:
        if counted != size:
            print_log(
                f'{counted} images were evaluated of a test set of {size}; with more, a sampler '
                f"that pads counts some twice (use sampler=dict(type='DefaultSampler', "
                f'shuffle=False, round_up=False))',
                logger='current',
                level=logging.WARNING,
            )

    def _names(self) -> list[str]:
        names = list((self.dataset_meta or {}).get('classes') or ())
        if not names:
            return [f'class {c}' for c in range(self.num_classes)]
        if len(names) != self.num_classes:
            raise InputError(
                f'the test set names {len(names)} classes, class_steps has {self.num_classes}; '
                f'both must describe the outputs of step {self.step}'
            )
        return names


def _ids(sample: dict, key: str) -> Tensor:
    try:
        return sample[key]['data'].squeeze(0)
    except KeyError as error:
        raise InputError(
            f'{_image(sample)}: a sample without {key} cannot be evaluated; the test pipeline '
            f"needs dict(type='LoadAnnotations') and dict(type='PackSegInputs')"
        ) from error


def _image(sample: dict) -> str:
    return str(sample.get('img_path', 'an image'))


def _flat(result: dict[str, Any]) -> dict[str, float]:
    """Return the means of a step in per cent, by the names under which they are logged."""
    means = result['mIoU']
    scores = {'mIoU': means['all']}
    scores |= {f'mIoU_{part}': means[part] for part in ('old', 'new', 'base', 'later')}
    scores[HARMONIC] = means[HARMONIC]
    scores |= {'mAcc': result['mean_accuracy'], 'aAcc': result['overall_accuracy']}
    scores |= {f'm{name}': result[f'm{name}']['all'] for name in FURTHER_NAMES if name in result}
    return {name: 100 * value for name, value in scores.items() if value is not None}


def _class_table(result: dict[str, Any]) -> str:
    width = max(len(name) for name in result['seen'])
    further = [name for name in FURTHER_NAMES if name in result]

    def percent(value: float | None, head: str = '') -> str:
        return ('-' if value is None else f'{100 * value:.2f}').rjust(max(5, len(head) + 2))

    rows = [f'{"class":{width}}  IoU %  Acc %' + ''.join(f'  {name} %' for name in further)]
    for name in result['seen']:
        cells = [percent(result['IoU'][name]), percent(result['accuracy'][name])]
        cells += [percent(result[key][name], key) for key in further]
        rows.append('  '.join([f'{name:{width}}', *cells]))
    return '\n'.join(rows)
