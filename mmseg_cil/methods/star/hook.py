"""Hook that keeps the statistics of each class and hands those of earlier steps on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg_cil.contracts import DataBatch, StepHook, network_of
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_images import images_stand_in, prepared, step_batches
from mmseg_cil.methods.star.distiller import StarDistiller
from mmseg_cil.methods.star.loss import ReplayedCrossEntropyLoss
from mmseg_cil.methods.star.replay import FORMS, replay_of, teacher_classes
from mmseg_cil.methods.star.statistics import (
    FILE_NAME,
    ClassStatistics,
    cells_of,
    gathered,
    joined,
    statistics_of,
)
from mmseg_cil.models.head_losses import has_own_losses, loss_modules
from mmseg_cil.models.heads import classifier_of, main_classifier, main_head
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.atomic import write_json
from mmseg_cil.utils.main_process import decided_by_main
from mmseg_cil.utils.values import check_choice

COUNTS_NAME = 'star_counts.json'
SETTINGS = ('overlapped', 'disjoint')


@HOOKS.register_module()
class StarStatisticsHook(StepHook):
    """Writes ``star.pth`` after a step, and gives the statistics of earlier steps to STAR's parts.

    One pass over a step's images, augmented as in training, in evaluation mode, gives prototype,
    noise and length of the embeddings of each class that the step brought, and the numbers of
    cells. Before a later step another pass counts the cells that the teacher sees old classes in;
    ``star_counts.json`` in the step's folder keeps the numbers for a resumed step. Each image is
    augmented by a seed of its own, so all of this is the same on any number of processes, up to
    the rounding of sums. Exemplars count in neither pass (ours; the official code counts them in
    the second). If the first step was trained elsewhere and its images are gone, images of a later
    step stand in for them, and a cell belongs to the class that the network predicts.

    Args:
        form: 'fixed': noise is measured from a class's own prototype, and the teacher sees a class
            whose sigmoid is above 0.5. 'official': from the second step on, noise is measured from
            the row of an old class in the table of all prototypes, and the teacher sees a class
            whose logit is above 0.5. Defaults to 'fixed'.
        setting: 'overlapped' or 'disjoint', which decides whether what the teacher sees is
            subtracted; by default that of the protocol, where any other counts as overlapped.

    Raises:
        InputError: An option is unknown.
    """

    rehearsed = True

    def __init__(self, form: str = 'fixed', setting: str | None = None) -> None:
        check_choice(self, 'form', form, FORMS)
        if setting is not None:
            check_choice(self, 'setting', setting, SETTINGS)
        self.form = form
        self.setting = setting

    def check_network(self, network: nn.Module) -> None:
        """Check before training that drawn embeddings can join the loss of the main head.

        Raises:
            InputError: The classifier's kernel is not 1x1, or the head computes its losses itself.
        """
        name, classifier = main_classifier(network)
        head = main_head(network)[1]
        if has_own_losses(head):
            raise InputError(
                f'StarStatisticsHook: {type(head).__name__} computes its losses in a way of its '
                'own, or samples pixels, so drawn embeddings cannot join them: use a head such as '
                'ASPPHead, FCNHead, UPerHead or SegformerHead without a sampler'
            )
        if tuple(classifier.kernel_size) != (1, 1):
            raise InputError(
                f'StarStatisticsHook: {name} has a kernel of {tuple(classifier.kernel_size)}, and '
                'embeddings are drawn for 1x1 alone: use a head whose classifier is 1x1'
            )

    def before_train(self, runner: Runner) -> None:
        """Give loss and distiller what earlier steps kept."""
        model = network_of(runner)
        if not isinstance(model, IncrementalEncoderDecoder) or not model.step.trained:
            return
        step, device = model.step, next(model.parameters()).device
        earlier = self._earlier(runner, model)
        for part in model.distillers:
            if isinstance(part, StarDistiller):
                part.set_star_prototypes(earlier.prototypes[earlier.counts > 0].to(device))
        head = main_head(model)[1]
        losses = [part for part in loss_modules(head) if isinstance(part, ReplayedCrossEntropyLoss)]
        if not losses or model.teacher is None:
            return
        predicted = self._predicted(runner, model)
        known = step.num_known
        replay = replay_of(
            earlier,
            predicted,
            self._iterations(runner),
            step.num_seen - known,
            self._subtracts(runner),
        )
        for loss in losses:
            loss.set_replay(replay.to(device), classifier_of(head))
        runner.logger.info(
            f'STAR draws {len(replay.index)} embeddings of old classes in each iteration, and '
            f'background counts {1 + replay.background_ratio:.3f} times'
        )

    def after_step(self, runner: Runner) -> None:
        """Keep the statistics of this step's classes, once its weights are final."""
        model = network_of(runner)
        assert isinstance(model, IncrementalEncoderDecoder)
        sums, background = gathered(
            model, step_batches(runner, None), _new_classes(model), images_stand_in(runner)
        )
        folder = Path(runner.work_dir)

        def write() -> str:
            found = self._statistics(model, sums, background, folder)
            found.save(folder / FILE_NAME, self._settings())
            size = (folder / FILE_NAME).stat().st_size
            return f'kept the statistics of {len(found.counts)} classes ({size / 1e3:.1f} kB)'

        # An error such as a full disk ends all processes, so none waits for rank 0.
        runner.logger.info(decided_by_main(write))

    def has_kept(self, folder: Path) -> bool:
        """Return whether a step's folder has the file, made with the settings of this hook."""
        path = folder / FILE_NAME
        return path.is_file() and ClassStatistics.load(path)[1] == self._settings()

    def stand_in(self, model: nn.Module, batches: Iterable[DataBatch], folder: Path) -> None:
        """Write, for the rehearsal, a file of the kind that a step leaves.

        Args:
            model: The segmentor at the step.
            batches: Collated samples.
            folder: Folder of the step.
        """
        assert isinstance(model, IncrementalEncoderDecoder)
        sums, background = gathered(model, batches, _new_classes(model))
        found = self._statistics(model, sums, background, folder)
        found.save(folder / FILE_NAME, self._settings())

    def _statistics(
        self, model: IncrementalEncoderDecoder, sums: Tensor, background: float, folder: Path
    ) -> ClassStatistics:
        """Return a step's statistics; ``folder`` is that of the step, beside those before it."""
        earlier = None
        trained = model.step.trained
        if self.form == 'official' and trained:
            kept = [_load(folder.parent, step)[0] for step in trained]
            earlier = torch.cat([part.prototypes for part in kept])
        counts = _read_counts(folder / COUNTS_NAME, self._counting(), model.step.num_known)
        return statistics_of(sums, background, earlier, counts if trained else None)

    def _earlier(self, runner: Runner, model: IncrementalEncoderDecoder) -> ClassStatistics:
        walk = Path(runner.work_dir).parent
        kept = []
        for step in model.step.trained:
            found, settings = _load(walk, step)
            if settings != self._settings():
                runner.logger.warning(
                    f'{step_folder(walk, step) / FILE_NAME} was made with {settings}; this method '
                    f'would make it with {self._settings()}'
                )
            kept.append(found)
        return joined(kept, self._subtracts(runner))

    def _predicted(self, runner: Runner, model: IncrementalEncoderDecoder) -> Tensor:
        """Return the numbers of cells that the teacher sees, from the file or from a pass."""
        path = Path(runner.work_dir) / COUNTS_NAME
        known = model.step.num_known
        kept = decided_by_main(
            lambda: (
                None
                if (found := _read_counts(path, self._counting(), known)) is None
                else found.tolist()
            )
        )
        if kept is not None:
            return torch.tensor(kept, dtype=torch.float64)
        counts = predicted_cells(model, step_batches(runner, None), self.form)
        content = {**self._counting(), 'cells': counts.tolist()}
        decided_by_main(lambda: write_json(path, content))
        return counts

    def _subtracts(self, runner: Runner) -> bool:
        setting = self.setting or (runner.cfg.get('protocol') or {}).get('setting')
        return setting != 'disjoint'

    def _iterations(self, runner: Runner) -> float:
        """Return the number of iterations of one pass over the step's own images."""
        loader: Any = runner.train_dataloader
        dataset = loader.dataset
        images = dataset.num_own if hasattr(dataset, 'num_own') else len(dataset)
        return float(max(1.0, images / ((loader.batch_size or 1) * get_world_size())))

    def _settings(self) -> dict[str, Any]:
        return dict(form=self.form)

    def _counting(self) -> dict[str, Any]:
        return dict(form=self.form)


def _new_classes(model: IncrementalEncoderDecoder) -> range:
    """Return the foreground classes that no earlier network knows."""
    return range(max(1, model.step.num_known), model.step.num_seen)


def _load(walk: Path, step: int) -> tuple[ClassStatistics, dict[str, Any]]:
    return ClassStatistics.load(step_folder(walk, step) / FILE_NAME)


def _read_counts(path: Path, settings: dict[str, Any], num_classes: int) -> Tensor | None:
    """Return the numbers in a file; None if it is missing, unreadable or of other settings."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        cells = torch.tensor([float(value) for value in content['cells']], dtype=torch.float64)
        same = all(content[key] == value for key, value in settings.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return cells if same and len(cells) == num_classes else None


def predicted_cells(
    model: IncrementalEncoderDecoder, batches: Iterable[DataBatch], form: str
) -> Tensor:
    """Return the numbers of cells without a new label in which the teacher sees each class.

    Args:
        model: The segmentor, with a loaded teacher.
        batches: This process's collated samples. With several processes every process must call
            this function, even without a batch.
        form: One of :data:`~mmseg_cil.methods.star.replay.FORMS`.

    Returns:
        ``(O,)`` float64, background first, summed over all processes, on the CPU.
    """
    assert model.teacher is not None
    known = model.step.num_known
    device = next(model.parameters()).device
    total = torch.zeros(known, dtype=torch.float64, device=device)
    ids = torch.arange(known, device=device)
    with torch.no_grad():
        for batch in batches:
            inputs, labels = prepared(model, batch)
            logits = model.teacher(inputs).logits
            cells = cells_of(labels.squeeze(1).to(logits.device), logits.shape[2:])
            classes = teacher_classes(logits, form).masked_fill(cells >= known, -1)
            total += (classes.flatten() == ids[:, None]).sum(dim=1)
    all_reduce(total)
    return total.cpu()
