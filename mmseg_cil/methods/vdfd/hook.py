"""Keeping the gradients of a step's outputs, and handing those of earlier steps on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg_cil.contracts import StepHook, network_of
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_images import step_batches
from mmseg_cil.methods.vdfd.compression import OutputGradients
from mmseg_cil.methods.vdfd.dfd_regulariser import DFDRegulariser, GradientRegulariser
from mmseg_cil.methods.vdfd.files import FILE_NAME, load_gradients, save_gradients
from mmseg_cil.methods.vdfd.keeper import GradientKeeper
from mmseg_cil.methods.vdfd.parameters import PARTS, regularised_parameters
from mmseg_cil.methods.vdfd.reanchoring import Beginnings
from mmseg_cil.methods.vdfd.step_sizes import stable_step_size, tell_curvature
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.main_process import decided_by_main


@HOOKS.register_module()
class VDFDHook(GradientKeeper, StepHook):
    """Makes ``vdfd.pth`` after a step and gives those of earlier steps to the regulariser.

    After training one pass over images of the step, in evaluation mode and
    float32, gives the gradients of the step's outputs (one backward pass an
    output and batch). They are averaged over images, reduced over processes,
    compressed by the main process and written into the step's folder. Every image
    is cropped and flipped by a seed of its own, so the file is the same on any
    number of processes, to the rounding of sums.

    Before a later step every :class:`GradientRegulariser` is given
    the files of all earlier steps that trained. The log then states how steep the
    penalty is, and warns where SGD's learning rate is too large for it undamped.

    Which layers, outputs and images stand for a segmentation network the
    publication does not say; the defaults are our reading of the classification
    code, and each is an option.

    Args:
        rank: Singular triples kept of every tensor; 1 officially. None keeps the
            gradients as they are.
        average: Average the gradient over each filter first, as officially.
        outputs: 'mean' (default), 'predicted', 'grid' or 'conditional', see
            :func:`~mmseg_cil.methods.vdfd.outputs.output_sums`. 'conditional' takes a backward
            pass for each node and class that is predicted in a batch.
        grid: Parts along each axis, for 'grid'.
        background: 'keep' (default), 'exclude' or 'merge', see
            :func:`~mmseg_cil.methods.vdfd.outputs.nodes_of_step`.
        classifier: Whether the decode head's classifier is regularised too. Officially
            it is left out, where every task has a head of its own that later tasks do
            not touch. Here its old rows go on learning, and in a class-incremental walk
            they are what forgets first, so it is in by default, which is our choice. Its
            rows stand apart in the compression, and lose nothing by it.
        parts: Names of the segmentor's modules that are regularised: 'backbone',
            'neck', 'decode_head' or what is in them, such as 'backbone.layer4'. By
            default all three, of which what trains. The classifier is in
            'decode_head', and ``classifier`` can still leave it out.
        norms: Whether scales and shifts of norm layers are regularised too, which
            is the default.
        weighting: 'images' (default) or 'batches', the official weights, see
            :func:`~mmseg_cil.methods.vdfd.gradients.gradient_sums`.
        max_images: Images to use at most, spread evenly over the step's. Their
            number is our choice. None: all, as officially. Defaults to 500.
        batch_size: Images a backward pass and process. That of training by default.
        nodes: 'new' (default) remembers the classes that a step introduced, 'all' every class
            seen so far, after every step: our choice.
        sketches: Random combinations of the outputs of single samples that are kept of each
            node beside the mean, and a backward pass each, see
            :mod:`~mmseg_cil.methods.vdfd.sketches`. A ``rank`` above 1 keeps more of them.
            Defaults to 0.
        samples: Samples of what sketches are combinations: 'pixels' (default) or 'images'.

    Raises:
        InputError: An option is unknown or out of range.
    """

    rehearsed = True

    def before_train(self, runner: Runner) -> None:
        """Gives the regularisers what earlier steps kept."""
        model = _bare(runner)
        takers = [
            regulariser
            for regulariser in model.regularisers
            if isinstance(regulariser, GradientRegulariser)
        ]
        if not takers:
            return
        kept = {step: self._load(runner, step) for step in model.step.trained}
        # A step that had nothing to remember does not count.
        steps = [gradients for gradients in kept.values() if gradients.nodes]
        previous = model.previous_state()
        step_size = stable_step_size(runner.optim_wrapper)
        more: dict[str, Any] = {}
        if steps and any(taker.reanchor for taker in takers):
            beginnings = Beginnings(model, Path(runner.work_dir).parent, self.average)
            more = dict(moves=beginnings.initial_moves(kept, previous))
        for taker in takers:
            taker.set_earlier_steps(
                steps, model, previous, step_size, **(more if taker.reanchor else {})
            )
            if steps and isinstance(taker, DFDRegulariser):
                tell_curvature(
                    runner,
                    taker,
                    taker.curvature(steps, previous),
                    taker.effective_damping(step_size),
                )

    def _load(self, runner: Runner, step: int) -> OutputGradients:
        """What a step kept; told where it was made otherwise than this hook would."""
        path = step_folder(Path(runner.work_dir).parent, step) / FILE_NAME
        gradients, settings = load_gradients(path)
        if not self.made_alike(settings):
            runner.logger.warning(
                f'{path} was made with {settings}; this method would make it with {self.settings()}'
            )
        return gradients

    def after_step(self, runner: Runner) -> None:
        """Keeps the gradients of this step, once its weights are final."""
        model = _bare(runner)
        nodes = self.nodes_of(model.step)
        means = self.mean_gradients(
            model, step_batches(runner, self.max_images, self.batch_size), nodes
        )

        def write() -> str:
            # Nobody but who writes the file needs the decomposition.
            gradients = self.compressed(model, means, nodes)
            moved = self._moved(model, gradients.names, Path(runner.work_dir).parent)
            gradients = replace(gradients, moved=moved)
            path = Path(runner.work_dir) / FILE_NAME
            save_gradients(path, gradients, self.settings())
            text = (
                f'VDFD kept {gradients.num_floats} numbers of the step '
                f'({path.stat().st_size / 1e6:.2f} MB)'
            )
            return text + (f'; its beginning had moved rows of {list(moved)}' if moved else '')

        # A full disk ends all processes, and none waits for the main one.
        runner.logger.info(decided_by_main(write))

    def _moved(
        self, model: IncrementalEncoderDecoder, names: Sequence[str], work_dir: Path
    ) -> dict[str, Tensor] | None:
        """What the initialisation moved when the step began; None where that cannot be told."""
        last = max(model.step.trained, default=-1)
        try:
            moves = Beginnings(model, work_dir, self.average).moves_of(model.step.index, last)
        except InputError:
            # Only who re-anchors has to know, and is told then.
            return None
        return {name: moves[name] for name in names if name in moves}

    def stand_in(self, model: nn.Module, batches: Iterable[Any], folder: Path) -> None:
        """Write, for the rehearsal, a file of the kind that a step leaves.

        The gradients are those of its first output, for all of its outputs.

        Args:
            model: At the step.
            batches: Collated samples.
            folder: Folder of the step.
        """
        assert isinstance(model, IncrementalEncoderDecoder)
        nodes = self.nodes_of(model.step)
        first = self.mean_gradients(model, batches, nodes[:1])
        means = first[:, :1].expand(-1, len(nodes) * self.cells_of(model.step)) if nodes else first
        gradients = replace(self.compressed(model, means, nodes), moved={})
        save_gradients(folder / FILE_NAME, gradients, self.settings())

    def has_kept(self, folder: Path) -> bool:
        """Whether a step's folder has the file, as this hook would have made it."""
        path = folder / FILE_NAME
        return path.is_file() and self.made_alike(load_gradients(path)[1])

    def check_network(self, network: nn.Module) -> None:
        """Asked before training whether a step's network has what is to be regularised.

        Raises:
            InputError: It has not, or the method changes it while a step trains: the weights
                that gradients are kept of, in plain form, are then not those that train.
        """
        regularised_parameters(network, self.parts, self.classifier, self.norms)
        if not isinstance(network, IncrementalEncoderDecoder) or not len(network.regularisers):
            return
        prefixes = tuple(f'{part}.' for part in self.parts or PARTS)
        own = {name for name, _ in network.named_parameters()}
        lost = sorted(
            name for name in network.plain_parameter_names() - own if name.startswith(prefixes)
        )
        if lost:
            raise InputError(
                f'VDFDHook keeps gradients of {lost[0]} and {len(lost) - 1} more parameters that '
                'the network does not have while a step trains: method.network_change replaces '
                'them. Leave it out, or the regularisers, or name other parts'
            )


def _bare(runner: Runner) -> IncrementalEncoderDecoder:
    model = network_of(runner)
    if not isinstance(model, IncrementalEncoderDecoder):
        raise InputError(
            'VDFDHook works in walks only: its model must be an IncrementalEncoderDecoder'
        )
    return model
