"""Hook that keeps the gradients of a step's outputs and hands those of earlier steps on."""

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
    """Writes ``vdfd.pth`` after a step and gives the files of earlier steps to the regulariser.

    After training, one pass over images of the step, in evaluation mode and
    float32, gives the gradients of the step's outputs (one backward pass per
    output and batch). The gradients are averaged over images, reduced over processes,
    compressed by rank 0 and written into the step's folder. Every image
    is cropped and flipped by a seed of its own, so the file is the same on any
    number of processes, up to the rounding of sums.

    Before a later step, every :class:`GradientRegulariser` gets
    the files of all earlier steps that trained. The log then states the curvature of the
    penalty, and warns if SGD's learning rate is too large for a penalty without damping.

    The publication does not say which layers, outputs and images to use for a
    segmentation network; the defaults are our reading of the classification
    code, and each is an option.

    Args:
        rank: Number of singular triples kept of every tensor; 1 in the official code. None
            keeps the gradients as they are.
        average: Average the gradient over each filter first, as in the official code.
        outputs: 'mean' (default), 'predicted', 'grid' or 'conditional', see
            :func:`~mmseg_cil.methods.vdfd.outputs.output_sums`. 'conditional' takes a backward
            pass for each node and class that is predicted in a batch.
        grid: Number of parts along each axis, for 'grid'.
        background: 'keep' (default), 'exclude' or 'merge', see
            :func:`~mmseg_cil.methods.vdfd.outputs.nodes_of_step`.
        classifier: Whether the decode head's classifier is regularised too. The official code
            leaves the classifier out, because every task has a head of its own that later
            tasks do not change. Here the old rows of the classifier go on learning, and in a
            class-incremental walk these rows forget first. The classifier is therefore
            regularised by default, which is our choice. The rows of the classifier stand apart
            in the compression, which keeps their gradients exactly.
        parts: Names of the segmentor's modules that are regularised: 'backbone',
            'neck', 'decode_head' or modules in them, such as 'backbone.layer4'. By
            default all parameters of these three that train. The classifier belongs to
            'decode_head', and ``classifier`` can still leave it out.
        norms: Whether scales and shifts of norm layers are regularised too. Defaults to True.
        weighting: 'images' (default) or 'batches', the official weights, see
            :func:`~mmseg_cil.methods.vdfd.gradients.gradient_sums`.
        max_images: Greatest number of images, spread evenly over the step's images. The
            number is our choice. None: all images, as in the official code. Defaults to 500.
        batch_size: Images per backward pass and process. By default the batch size of training.
        nodes: 'new' (default) remembers the classes that a step introduced, 'all' every class
            seen so far, after every step. 'all' is our choice.
        sketches: Number of sketches per node, kept in addition to the mean. A sketch is a random
            combination of the outputs of single samples and takes a backward pass, see
            :mod:`~mmseg_cil.methods.vdfd.sketches`. A ``rank`` above 1 keeps more of the sketches.
            Defaults to 0.
        samples: Samples that sketches combine: 'pixels' (default) or 'images'.

    Raises:
        InputError: An option is unknown or out of range.
    """

    rehearsed = True

    def before_train(self, runner: Runner) -> None:
        """Give the regularisers the gradients that earlier steps kept."""
        model = _bare(runner)
        takers = [
            regulariser
            for regulariser in model.regularisers
            if isinstance(regulariser, GradientRegulariser)
        ]
        if not takers:
            return
        kept = {step: self._load(runner, step) for step in model.step.trained}
        # Steps without nodes have nothing to remember and are left out.
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
        """Return the gradients that a step kept; warn if the settings differ from this hook's."""
        path = step_folder(Path(runner.work_dir).parent, step) / FILE_NAME
        gradients, settings = load_gradients(path)
        if not self.made_alike(settings):
            runner.logger.warning(
                f'{path} was made with {settings}; this method would make it with {self.settings()}'
            )
        return gradients

    def after_step(self, runner: Runner) -> None:
        """Keep the gradients of this step, once its weights are final."""
        model = _bare(runner)
        nodes = self.nodes_of(model.step)
        means = self.mean_gradients(
            model, step_batches(runner, self.max_images, self.batch_size), nodes
        )

        def write() -> str:
            # Only rank 0, which writes the file, computes the decomposition.
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

        # An error such as a full disk ends all processes, so none waits for rank 0.
        runner.logger.info(decided_by_main(write))

    def _moved(
        self, model: IncrementalEncoderDecoder, names: Sequence[str], work_dir: Path
    ) -> dict[str, Tensor] | None:
        """Return the initialisation's moves when the step began; None if they are not known."""
        last = max(model.step.trained, default=-1)
        try:
            moves = Beginnings(model, work_dir, self.average).moves_of(model.step.index, last)
        except InputError:
            # Only a regulariser that re-anchors needs the moves; it raises the error then.
            return None
        return {name: moves[name] for name in names if name in moves}

    def stand_in(self, model: nn.Module, batches: Iterable[Any], folder: Path) -> None:
        """Write, for the rehearsal, a file of the kind that a step leaves.

        The gradients of the step's first output stand for those of all outputs.

        Args:
            model: The segmentor at the step.
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
        """Return whether a step's folder has the file, made with the settings of this hook."""
        path = folder / FILE_NAME
        return path.is_file() and self.made_alike(load_gradients(path)[1])

    def check_network(self, network: nn.Module) -> None:
        """Check before training that a step's network has the parameters to regularise.

        Raises:
            InputError: The network lacks such parameters, or the method replaces them while a
                step trains. In the latter case the weights whose gradients are kept, in plain
                form, are not the weights that train.
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
            'VDFDHook works in walks only: its model must be an IncrementalEncoderDecoder: '
            'take it out of custom_hooks elsewhere'
        )
    return model
