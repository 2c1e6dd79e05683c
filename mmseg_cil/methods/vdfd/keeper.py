"""Computation of the compressed gradients of a network's outputs, and its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.compression import OutputGradients, check_finite, compress
from mmseg_cil.methods.vdfd.filters import block_heights, num_rows, order_by_rows
from mmseg_cil.methods.vdfd.gradients import WEIGHTINGS, gradient_sums, mean_gradients
from mmseg_cil.methods.vdfd.outputs import (
    BACKGROUNDS,
    NODES,
    OUTPUTS,
    Nodes,
    cells_of,
    node_logits,
    nodes_of_step,
    output_sums,
)
from mmseg_cil.methods.vdfd.parameters import (
    check_parts,
    classifier_prefix,
    regularised_parameters,
)
from mmseg_cil.methods.vdfd.sketches import SAMPLES, signs_of, sketch_sums, sketched_gradients
from mmseg_cil.models.network_output import main_logits
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice, check_number

#: Options that files of earlier versions do not name, with the values that those files have.
_ADDED_OPTIONS = {'parts': None, 'norms': True, 'nodes': 'new', 'sketches': 0, 'samples': 'pixels'}


class GradientKeeper:
    """Computes the compressed gradients of a network's outputs.

    All options are those of :class:`~mmseg_cil.methods.vdfd.hook.VDFDHook`.

    Raises:
        InputError: An option is unknown or out of range.
    """

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
        nodes: str = 'new',
        sketches: int = 0,
        samples: str = 'pixels',
    ) -> None:
        for name, value, known in (
            ('outputs', outputs, OUTPUTS),
            ('weighting', weighting, WEIGHTINGS),
            ('background', background, BACKGROUNDS),
            ('nodes', nodes, NODES),
            ('samples', samples, SAMPLES),
        ):
            check_choice('VDFDHook', name, value, known)
        for name, number in (
            ('rank', rank),
            ('grid', grid),
            ('max_images', max_images),
            ('batch_size', batch_size),
        ):
            if number is not None and number < 1:
                raise InputError(f'VDFDHook: {name} must be at least 1, got {number}')
        check_number(self, 'sketches', sketches, whole=True)
        if sketches and (outputs, weighting) != ('mean', 'images'):
            raise InputError(
                f"VDFDHook: sketches are made beside outputs='mean' with weighting='images', not "
                f'beside {outputs!r} with {weighting!r}'
            )
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
        self.nodes = nodes
        self.sketches = sketches
        self.samples = samples

    def nodes_of(self, step: StepContext) -> Nodes:
        """Return the nodes whose gradients are kept after a step.

        Args:
            step: The step, as the network knows it.
        """
        return nodes_of_step(
            step.class_steps,
            step.index,
            max(step.trained, default=-1),
            step.has_background,
            self.background,
            self.nodes,
        )

    def keep(
        self, model: IncrementalEncoderDecoder, batches: Iterable[Any], nodes: Nodes
    ) -> OutputGradients:
        """Return the compressed gradients of a model's outputs, on every process that calls.

        Args:
            model: See :meth:`mean_gradients`.
            batches: As :meth:`mean_gradients` takes them.
            nodes: As :meth:`mean_gradients` takes them.
        """
        return self.compressed(model, self.mean_gradients(model, batches, nodes), nodes)

    def mean_gradients(
        self, model: IncrementalEncoderDecoder, batches: Iterable[Any], nodes: Nodes
    ) -> Tensor:
        """Return the gradients ``(F, N)`` of a model's outputs, the same on all processes.

        Args:
            model: The segmentor, which is in evaluation mode during the computation.
            batches: This process's collated samples. With several processes every process
                must call this method, even without a batch.
            nodes: See :func:`~mmseg_cil.methods.vdfd.outputs.nodes_of_step`.

        Raises:
            InputError: The gradients are not finite. All processes raise the error, so that
                none waits for one that has stopped.
        """
        parameters = self.parameters(model)
        cells = self.cells_of(model.step)
        count = len(nodes) * cells
        was_training = model.training
        model.eval()
        sums, divisors = gradient_sums(
            lambda batch: self._output_sums(model, batch, nodes),
            batches if count else (),
            list(parameters.values()),
            count,
            self.average,
            self.weighting,
            skip_empty=self.outputs in ('predicted', 'conditional'),
        )
        model.train(was_training)
        all_reduce(sums)
        all_reduce(divisors)
        if self.sketches and count:
            means = sketched_gradients(sums, divisors, cells)
        else:
            means = mean_gradients(sums, divisors)
        check_finite(means)
        return means

    def _output_sums(
        self, model: IncrementalEncoderDecoder, batch: Any, nodes: Nodes
    ) -> tuple[Tensor, Tensor]:
        """Return sums of the outputs over a batch, and the divisors or sums beside them."""
        logits = evaluated_logits(model, batch)
        if not self.sketches:
            return output_sums(logits, nodes, self.outputs, self.grid)
        signs = signs_of(batch['inputs'], self.sketches, self.samples, tuple(logits.shape[2:]))
        return sketch_sums(node_logits(logits, nodes), signs.to(logits))

    def cells_of(self, step: StepContext) -> int:
        """Return the number of outputs of every node.

        Args:
            step: The step, as the network knows it.
        """
        return cells_of(self.outputs, self.grid, step.num_seen) + self.sketches

    def compressed(
        self, model: IncrementalEncoderDecoder, means: Tensor, nodes: Nodes
    ) -> OutputGradients:
        """Return the compressed form of gradients.

        Args:
            model: The network of the gradients.
            means: Gradients from :meth:`mean_gradients`.
            nodes: Nodes of the gradients.
        """
        parameters = self.parameters(model)
        rows = tuple(num_rows(parameter, self.average) for parameter in parameters.values())
        classifier = classifier_prefix(model)
        apart = tuple(name for name in parameters if name.startswith(classifier))
        heights = block_heights(parameters, rows, apart)
        kept = OutputGradients(
            tuple(parameters),
            rows,
            *compress(means.cpu(), heights, self.rank),
            torch.zeros(means.shape[1], dtype=torch.float64),
            nodes,
            self.cells_of(model.step),
            self.average,
            apart,
        )
        return replace(kept, projection=kept.project(parameters))

    def parameters(self, model: IncrementalEncoderDecoder) -> dict[str, Tensor]:
        """Return the parameters that are regularised, ordered by height.

        See :func:`~mmseg_cil.methods.vdfd.parameters.regularised_parameters`.
        """
        chosen = regularised_parameters(model, self.parts, self.classifier, self.norms)
        classifier = classifier_prefix(model)
        apart = [name for name in chosen if name.startswith(classifier)]
        return {name: chosen[name] for name in order_by_rows(chosen, self.average, apart)}

    def settings(self) -> dict[str, Any]:
        """Return the options, in the form that a file holds."""
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
                'nodes',
                'sketches',
                'samples',
            )
        }

    def made_alike(self, settings: Mapping[str, Any]) -> bool:
        """Return whether a file's settings are these options."""
        return {**_ADDED_OPTIONS, **settings} == self.settings()


def evaluated_logits(model: IncrementalEncoderDecoder, batch: Any) -> Tensor:
    """Return the classifier's logits ``(N, C, h, w)`` of a batch, not upsampled, in float32."""
    # Images are preprocessed as in training, so those smaller than the crop are padded.
    inputs = model.data_preprocessor(batch, True)['inputs']
    with torch.enable_grad():
        return main_logits(model, model.extract_feat(inputs))
