"""Hook that gathers the prototypes of classes and hands them on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmseg_cil.contracts import DataBatch, StepHook, network_of
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_images import images_stand_in, prepared, step_batches
from mmseg_cil.losses.cells import at_cells
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.sdr.class_sums import FORMS, ClassCells, greatest_of_all, total_of_all
from mmseg_cil.methods.sdr.distiller import (
    Means,
    RepresentationDistiller,
    classes_with_prototype,
    gathered,
)
from mmseg_cil.methods.sdr.prototypes import FILE_NAME, Prototypes
from mmseg_cil.models.head_losses import stack_labels
from mmseg_cil.models.network_output import maps_of, run_network
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.main_process import decided_by_main
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice, check_number

#: Key of the prototypes in a state of training.
STATE_KEY = 'sdr_prototypes'


@HOOKS.register_module()
class PrototypesHook(StepHook):
    """Gives prototypes to ``RepresentationDistiller``, and writes ``prototypes.pth`` after a step.

    At a step that has the distiller, the distiller adds each batch to the prototypes. The
    first step has no distiller, and this hook adds the features of the backbone's last map in
    training, by the labels of their cells. A state in the middle of a step holds the prototypes, so
    that a resumed step goes on with them.

    A step that another method trained, or that was trained elsewhere, has no prototypes. They
    are made from a pass over images of the step, in evaluation mode: each class that the step
    introduced gets the mean over its cells, and prototypes of earlier steps stay as they are. If
    the images of the first step are gone, images of a later step stand in for them, and a cell
    belongs to the class that the network predicts. The pass and its number of images are our
    choice.

    Args:
        form: 'fixed' or 'official', as that of the distiller; the pass has the right form always.
            Defaults to 'fixed'.
        max_images: Greatest number of images of a pass, spread evenly over the step's images.
            None: all images. Defaults to 1000.

    Raises:
        InputError: ``form`` is unknown, or the number is not positive.
    """

    rehearsed = True

    def __init__(self, form: str = 'fixed', max_images: int | None = 1000) -> None:
        check_choice(self, 'form', form, FORMS)
        if max_images is not None:
            check_number(self, 'max_images', max_images, least=1, whole=True)
        self.form = form
        self.max_images = max_images
        self._prototypes: Prototypes | None = None
        self._resumed: dict[str, Tensor] | None = None
        self._handles: list[RemovableHandle] = []
        self._features: Tensor | None = None

    def check_network(self, network: nn.Module) -> None:
        """Check that cells of features and labels belong together, and that the forms agree.

        Raises:
            InputError: The network turns its images in training, or a distiller has another form.
        """
        if getattr(network, 'self_supervision', None) is not None:
            raise InputError(
                'PrototypesHook: self-supervision changes the images of a batch, so that their '
                'labels do not fit the features: set method.self_supervision=None'
            )
        for reader in _readers(network):
            if reader.form != self.form:
                raise InputError(
                    f'RepresentationDistiller has form={reader.form!r} and PrototypesHook has '
                    f'form={self.form!r}: give both the same'
                )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take the prototypes of a state in training."""
        self._resumed = checkpoint.get(STATE_KEY)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the prototypes to a state in training; they are the same on all processes."""
        if self._prototypes is not None:
            checkpoint[STATE_KEY] = self._prototypes.state()

    def before_train(self, runner: Runner) -> None:
        """Read the prototypes of earlier steps, or of the state, and begin to add to them.

        Raises:
            InputError: The prototypes have another length than the network's features.
        """
        model = network_of(runner)
        if not isinstance(model, IncrementalEncoderDecoder):
            return
        kept = self._of_earlier_steps(Path(runner.work_dir).parent, model.step)
        if self._resumed is not None:
            kept = Prototypes(self._resumed['means'], self._resumed['counts'])
        device = next(model.parameters()).device
        self._prototypes = None
        if kept is not None:
            self._prototypes = kept.grown(model.step.num_seen).to(device)
        readers = _readers(model)
        if readers and self._prototypes is None:
            raise InputError(
                'RepresentationDistiller learns from the prototypes of earlier steps, and no '
                'earlier step has trained'
            )
        for reader in readers:
            assert self._prototypes is not None
            reader.set_prototypes(self._prototypes)
        if not readers:
            self._watch(model)

    def after_train(self, runner: Runner) -> None:
        """Add no more features."""
        self._unwatch()

    def after_step(self, runner: Runner) -> None:
        """Keep the prototypes in the step's folder; make them first, if the step has none."""
        model = network_of(runner)
        assert isinstance(model, IncrementalEncoderDecoder)
        found = self._prototypes
        if found is None:
            batches = step_batches(runner, self.max_images)
            earlier = self._of_earlier_steps(
                Path(runner.work_dir).parent, model.step, required=False
            )
            found = prototypes_of_images(model, batches, earlier, images_stand_in(runner))

        def write() -> str:
            path = Path(runner.work_dir) / FILE_NAME
            found.save(path, self._settings())
            number = int((found.counts > 0).sum())
            return f'kept the prototypes of {number} classes ({path.stat().st_size / 1e3:.1f} kB)'

        # An error such as a full disk ends all processes, so none waits for rank 0.
        runner.logger.info(decided_by_main(write))

    def has_kept(self, folder: Path) -> bool:
        """Return whether a step's folder has the file, made with the settings of this hook."""
        path = folder / FILE_NAME
        return path.is_file() and Prototypes.load(path)[1] == self._settings()

    def stand_in(self, model: nn.Module, batches: Iterable[DataBatch], folder: Path) -> None:
        """Write, for the rehearsal, a file of the kind that a step leaves.

        Args:
            model: The segmentor at the step.
            batches: Collated samples.
            folder: Folder of the step.
        """
        assert isinstance(model, IncrementalEncoderDecoder)
        found = prototypes_of_images(model, batches, None, predicted=True)
        found.save(folder / FILE_NAME, self._settings())

    def _settings(self) -> dict[str, Any]:
        return dict(form=self.form)

    def _of_earlier_steps(
        self, walk: Path, step: StepContext, required: bool = True
    ) -> Prototypes | None:
        """Return what the last step that trained has kept; None if there is no such step.

        Args:
            walk: Folder of the walk.
            step: The step that goes on with it.
            required: Whether a missing file is an error.
        """
        if not step.trained:
            return None
        path = step_folder(walk, step.trained[-1]) / FILE_NAME
        return Prototypes.load(path)[0] if required or path.is_file() else None

    def _watch(self, model: IncrementalEncoderDecoder) -> None:
        """Add each training batch of a network without the distiller to the prototypes."""

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            self._features = maps_of(output)[-1].detach() if module.training else None

        def add(module: nn.Module, inputs: Any, named: dict[str, Any], output: Any) -> None:
            features, self._features = self._features, None
            if named.get('mode') == 'loss' and features is not None:
                self._add(features, stack_labels(named['data_samples']), model.step)

        last = model.neck if model.with_neck else model.backbone
        self._handles = [
            last.register_forward_hook(keep),
            model.register_forward_hook(add, with_kwargs=True),
        ]

    @torch.no_grad()
    def _add(self, features: Tensor, labels: Tensor, step: StepContext) -> None:
        official = self.form == 'official'
        features = at_least_float32(features)
        if self._prototypes is None:
            self._prototypes = Prototypes.empty(step.num_seen, features.shape[1], features.device)
        with torch.autocast(features.device.type, enabled=False):
            cells = ClassCells(
                features,
                at_cells(labels, features.shape[2:]),
                step.num_seen,
                'lines' if official else None,
            )
            means = Means.of(cells)
            whole = classes_with_prototype(step, features.device)
            self._prototypes.add(means.sums, means.counts, gathered(means, whole, official))

    def _unwatch(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._features = None


def _readers(network: nn.Module) -> list[RepresentationDistiller]:
    return [part for part in network.modules() if isinstance(part, RepresentationDistiller)]


def prototypes_of_images(
    model: IncrementalEncoderDecoder,
    batches: Iterable[DataBatch],
    earlier: Prototypes | None = None,
    predicted: bool = False,
) -> Prototypes:
    """Return the mean features over the cells of each class that a step introduced.

    The model runs in evaluation mode without gradients and is put back into its mode.

    Args:
        model: The network of the step.
        batches: This process's collated samples with ``gt_sem_seg`` in model ids. With several
            processes every process must call this function, even without a batch.
        earlier: Prototypes of earlier steps, which stay for the classes of these steps.
        predicted: A cell belongs to the class that the network predicts, whatever its label.
    """
    step, device = model.step, next(model.parameters()).device
    sums: Tensor | None = None
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for batch in batches:
            inputs, labels = prepared(model, batch)
            output = run_network(model, inputs)
            features = at_least_float32(output.features[-1])
            ids = output.logits.argmax(dim=1) if predicted else labels.squeeze(1).to(device)
            cells = ClassCells(features, at_cells(ids, features.shape[2:]), step.num_seen)
            each = torch.cat([cells.sums(), cells.counts.unsqueeze(1)], dim=1).double()
            sums = each if sums is None else sums + each
    model.train(was_training)
    # A process without an image learns from the others how many channels there are.
    own_width = torch.tensor(0 if sums is None else sums.shape[1], device=device)
    width = int(greatest_of_all(own_width))
    if sums is None:
        sums = torch.zeros(step.num_seen, width, dtype=torch.float64, device=device)
    total = total_of_all(sums)
    found = Prototypes.empty(step.num_seen, width - 1, device)
    if earlier is not None:
        found = earlier.grown(step.num_seen).to(device)
    own, ids = step.classes_of(step.index), torch.arange(step.num_seen, device=device)
    chosen = classes_with_prototype(step, device) & (total[:, -1] > 0)
    found.add(total[:, :-1], total[:, -1], chosen & (ids >= own.start) & (ids < own.stop))
    return found
