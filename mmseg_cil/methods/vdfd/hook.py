"""Keeping the gradients of a step's outputs, and handing those of earlier steps on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg_cil.contracts import StepHook, network_of
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_images import step_batches
from mmseg_cil.methods.vdfd.compression import OutputGradients, check_finite, compress
from mmseg_cil.methods.vdfd.dfd_regulariser import DFDRegulariser, GradientRegulariser
from mmseg_cil.methods.vdfd.files import FILE_NAME, load_gradients, save_gradients
from mmseg_cil.methods.vdfd.filters import block_heights, num_rows, order_by_rows
from mmseg_cil.methods.vdfd.gradients import WEIGHTINGS, gradient_sums, mean_gradients
from mmseg_cil.methods.vdfd.outputs import (
    BACKGROUNDS,
    OUTPUTS,
    Nodes,
    cells_of,
    nodes_of_step,
    output_sums,
)
from mmseg_cil.methods.vdfd.parameters import (
    PARTS,
    check_parts,
    classifier_prefix,
    regularised_parameters,
)
from mmseg_cil.methods.vdfd.step_sizes import stable_step_size, tell_curvature
from mmseg_cil.models.network_output import main_logits
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.main_process import decided_by_main

#: Options that files of earlier versions do not name: they were made as these say.
_ADDED_OPTIONS = {'parts': None, 'norms': True}


@HOOKS.register_module()
class VDFDHook(StepHook):
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
        outputs: 'mean' (default), 'predicted' or 'grid', see
            :func:`~mmseg_cil.methods.vdfd.outputs.output_sums`.
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

    Raises:
        InputError: An option is unknown or out of range.
    """

    rehearsed = True

    def __init__(
        self,
        rank: int | None = 1,
        average: bool = True,
        outputs: str = 'mean',
        grid: int = 2,
        background: str = 'keep',
        classifier: bool = True,
        parts: Sequence[str] | None = None,
        norms: bool = True,
        weighting: str = 'images',
        max_images: int | None = 500,
        batch_size: int | None = None,
    ) -> None:
        for name, value, known in (
            ('outputs', outputs, OUTPUTS),
            ('weighting', weighting, WEIGHTINGS),
            ('background', background, BACKGROUNDS),
        ):
            if value not in known:
                raise InputError(f'VDFDHook: {name} must be one of {known}, got {value!r}')
        for name, number in (
            ('rank', rank),
            ('grid', grid),
            ('max_images', max_images),
            ('batch_size', batch_size),
        ):
            if number is not None and number < 1:
                raise InputError(f'VDFDHook: {name} must be at least 1, got {number}')
        check_parts(parts)
        self.rank = rank
        self.average = average
        self.outputs = outputs
        self.grid = grid
        self.background = background
        self.classifier = classifier
        self.parts = None if parts is None else tuple(parts)
        self.norms = norms
        self.weighting = weighting
        self.max_images = max_images
        self.batch_size = batch_size

    def before_train(self, runner: Runner) -> None:
        """Gives the regularisers what earlier steps kept."""
        model = _bare(runner)
        takers = [one for one in model.regularisers if isinstance(one, GradientRegulariser)]
        if not takers:
            return
        steps = []
        for step in model.step.trained:
            path = step_folder(Path(runner.work_dir).parent, step) / FILE_NAME
            gradients, settings = load_gradients(path)
            if not self._made_alike(settings):
                runner.logger.warning(
                    f'{path} was made with {settings}; this method would make '
                    f'it with {self._settings()}'
                )
            # A step that had nothing to remember does not count.
            if gradients.nodes:
                steps.append(gradients)
        previous = model.previous_state()
        step_size = stable_step_size(runner.optim_wrapper)
        for one in takers:
            one.set_earlier_steps(steps, model, previous, step_size)
            if steps and isinstance(one, DFDRegulariser):
                tell_curvature(
                    runner, one, one.curvature(steps, previous), one.effective_damping(step_size)
                )

    def after_step(self, runner: Runner) -> None:
        """Keeps the gradients of this step, once its weights are final."""
        model = _bare(runner)
        nodes = nodes_of_step(
            model.step.class_steps,
            model.step.index,
            max(model.step.trained, default=-1),
            model.step.has_background,
            self.background,
        )
        means = self.mean_gradients(
            model, step_batches(runner, self.max_images, self.batch_size), nodes
        )

        def write() -> str:
            # Nobody but who writes the file needs the decomposition.
            gradients = self.compressed(model, means, nodes)
            path = Path(runner.work_dir) / FILE_NAME
            save_gradients(path, gradients, self._settings())
            return (
                f'VDFD kept {gradients.num_floats} numbers of the step '
                f'({path.stat().st_size / 1e6:.2f} MB)'
            )

        # A full disk ends all processes, and none waits for the main one.
        runner.logger.info(decided_by_main(write))

    def stand_in(self, model: nn.Module, batches: Iterable[Any], folder: Path) -> None:
        """Write, for the rehearsal, a file of the kind that a step leaves.

        The gradients are those of its first output, for all of its outputs.

        Args:
            model: At the step.
            batches: Collated samples.
            folder: Of the step.
        """
        assert isinstance(model, IncrementalEncoderDecoder)
        step = model.step
        nodes = nodes_of_step(
            step.class_steps,
            step.index,
            max(step.trained, default=-1),
            step.has_background,
            self.background,
        )
        first = self.mean_gradients(model, batches, nodes[:1])
        means = (
            first[:, :1].expand(-1, len(nodes) * cells_of(self.outputs, self.grid))
            if nodes
            else first
        )
        save_gradients(folder / FILE_NAME, self.compressed(model, means, nodes), self._settings())

    def has_kept(self, folder: Path) -> bool:
        """Whether a step's folder has the file, as this hook would have made it."""
        path = folder / FILE_NAME
        return path.is_file() and self._made_alike(load_gradients(path)[1])

    def check_network(self, network: nn.Module) -> None:
        """Asked before training whether a step's network has what is to be regularised.

        Raises:
            InputError: It has not, or the method changes it while a step trains: the weights
                that gradients are kept of, in plain form, are then not those that train.
        """
        regularised_parameters(network, self.parts, self.classifier, self.norms)
        if not isinstance(network, IncrementalEncoderDecoder) or not len(network.regularisers):
            return
        prefixes = tuple(f'{one}.' for one in self.parts or PARTS)
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

    def keep(
        self, model: IncrementalEncoderDecoder, batches: Iterable[Any], nodes: Nodes
    ) -> OutputGradients:
        """The compressed gradients of a model's outputs, on every process that calls.

        Args:
            model: See :meth:`mean_gradients`.
            batches: See there.
            nodes: See there.
        """
        return self.compressed(model, self.mean_gradients(model, batches, nodes), nodes)

    def mean_gradients(
        self, model: IncrementalEncoderDecoder, batches: Iterable[Any], nodes: Nodes
    ) -> Tensor:
        """The gradients ``(F, N)`` of a model's outputs, the same on all processes.

        Args:
            model: Put into evaluation mode meanwhile.
            batches: This process's collated samples. With several processes every
                one must call, if only with no batch.
            nodes: See :func:`~mmseg_cil.methods.vdfd.outputs.nodes_of_step`.

        Raises:
            InputError: They are not finite. All processes find that, so that none
                waits for one that has stopped.
        """
        parameters = self.parameters(model)
        count = len(nodes) * cells_of(self.outputs, self.grid)

        def outputs(batch: Any) -> tuple[Tensor, Tensor]:
            logits = evaluated_logits(model, batch)
            return output_sums(logits, nodes, self.outputs, self.grid)

        was_training = model.training
        model.eval()
        sums, divisors = gradient_sums(
            outputs,
            batches if count else (),
            list(parameters.values()),
            count,
            self.average,
            self.weighting,
        )
        model.train(was_training)
        all_reduce(sums)
        all_reduce(divisors)
        means = mean_gradients(sums, divisors)
        check_finite(means)
        return means

    def compressed(
        self, model: IncrementalEncoderDecoder, means: Tensor, nodes: Nodes
    ) -> OutputGradients:
        """What is kept of gradients.

        Args:
            model: With the weights that they are of.
            means: Of :meth:`mean_gradients`.
            nodes: Of these.
        """
        parameters = self.parameters(model)
        rows = tuple(num_rows(one, self.average) for one in parameters.values())
        classifier = classifier_prefix(model)
        apart = tuple(name for name in parameters if name.startswith(classifier))
        heights = block_heights(parameters, rows, apart)
        kept = OutputGradients(
            tuple(parameters),
            rows,
            *compress(means.cpu(), heights, self.rank),
            torch.zeros(means.shape[1], dtype=torch.float64),
            nodes,
            cells_of(self.outputs, self.grid),
            self.average,
            apart,
        )
        return replace(kept, projection=kept.project(parameters))

    def parameters(self, model: IncrementalEncoderDecoder) -> dict[str, Tensor]:
        """The parameters that are regularised, ordered by height.

        See :func:`~mmseg_cil.methods.vdfd.parameters.regularised_parameters`.
        """
        chosen = regularised_parameters(model, self.parts, self.classifier, self.norms)
        classifier = classifier_prefix(model)
        apart = [name for name in chosen if name.startswith(classifier)]
        return {name: chosen[name] for name in order_by_rows(chosen, self.average, apart)}

    def _settings(self) -> dict[str, Any]:
        return {
            key: getattr(self, key)
            for key in (
                'rank',
                'average',
                'outputs',
                'grid',
                'background',
                'classifier',
                'parts',
                'norms',
                'weighting',
                'max_images',
                'batch_size',
            )
        }

    def _made_alike(self, settings: Mapping[str, Any]) -> bool:
        """Whether a file's settings are those of this hook."""
        return {**_ADDED_OPTIONS, **settings} == self._settings()


def evaluated_logits(model: IncrementalEncoderDecoder, batch: Any) -> Tensor:
    """The classifier's logits ``(N, C, h, w)`` of a batch, not upsampled, in float32."""
    # As in training, so that images smaller than the crop are padded.
    inputs = model.data_preprocessor(batch, True)['inputs']
    with torch.enable_grad():
        return main_logits(model, model.extract_feat(inputs))


def _bare(runner: Runner) -> IncrementalEncoderDecoder:
    model = network_of(runner)
    if not isinstance(model, IncrementalEncoderDecoder):
        raise InputError(
            'VDFDHook works in walks only: its model must be an IncrementalEncoderDecoder'
        )
    return model
