"""Variational data-free knowledge distillation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.compression import OutputGradients
from mmseg_cil.methods.vdfd.covariance import PrecisionNetwork, log_det_covariance, node_graph
from mmseg_cil.methods.vdfd.dfd_regulariser import DFDRegulariser
from mmseg_cil.methods.vdfd.quadratic_form import QUADRATICS, accumulate
from mmseg_cil.methods.vdfd.reanchoring import InitialMoves
from mmseg_cil.models.heads import main_classifier
from mmseg_cil.models.parsed_losses import APART
from mmseg_cil.registry import MODELS


@MODELS.register_module()
class VDFDRegulariser(DFDRegulariser):
    r"""VDFD's regulariser: predicted changes of earlier outputs under a learnt covariance.

    .. math:: \lambda \sum_i \Big[ (w - w_i^*)^T G_i \Sigma_i^{-1} G_i^T (w - w_i^*)
              + \log |\Sigma_i| \Big], \qquad \Sigma_i^{-1} = P_i P_i^T + \epsilon I

    P is the output of a graph network over a step's classes. The graph network is trained
    together with the segmentor by an optimizer of its own. At each step the graph network is
    initialised anew, and its inputs become the classifier's rows as the last step left them.
    The log-determinant has no gradient for the segmentor.

    Source: "Variational Data-Free Knowledge Distillation for Continual Learning",
    TPAMI 2023; XiaorongLi-95/VDFD ``task_incremental/agents/vdfd.py``. With
    ``quadratic='official'`` epsilon is in the log-determinant only; ``accumulation``
    has the official class-incremental form. The log-determinant counts once for each cell
    of a node (our choice: cells are independent).

    Args:
        loss_weight: Lambda. The official values are 5 to 200 for ResNets. Defaults to 1.0.
        eps: Epsilon. Defaults to 0.001, as in all official scripts.
        quadratic: 'paper' or 'official', see
            :func:`~mmseg_cil.methods.vdfd.quadratic_form.quadratic_form`.
        accumulation: See :func:`~mmseg_cil.methods.vdfd.quadratic_form.accumulate`.
        covariance: Arguments of
            :class:`~mmseg_cil.methods.vdfd.covariance.PrecisionNetwork` except the first.
        optimizer: Config of the graph network's optimizer. Defaults to Adam with
            learning rate and weight decay 5e-4: our pair, of official magnitudes.
        loss_name: Name in the log. Defaults to 'loss_vdfd'. The loss is lambda times the
            quadratic form, which trains the segmentor; the log-determinant is
            minimised too, and logged as ``apart_vdfd``. Both are also
            logged without the factor lambda, as ``vdfd_quadratic`` and ``vdfd_log_det``.
            If the quadratic form is damped (under SGD), the damped form is logged, which
            is smaller and contains lambda.
        damping: See :class:`~mmseg_cil.methods.vdfd.dfd_regulariser.DFDRegulariser`, also for
            the next two arguments.
        reanchor: See ``damping``.
        curvature: See ``damping``.

    Raises:
        InputError: An option is unknown, or ``eps`` is not positive.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        eps: float = 1e-3,
        quadratic: str = 'paper',
        accumulation: str = 'sum',
        covariance: dict | None = None,
        optimizer: dict | None = None,
        loss_name: str = 'loss_vdfd',
        damping: float | None = None,
        reanchor: bool | float = False,
        curvature: float | None = None,
    ) -> None:
        super().__init__(loss_weight, accumulation, loss_name, damping, reanchor, curvature)
        if quadratic not in QUADRATICS:
            raise InputError(
                f'VDFDRegulariser: quadratic must be one of {QUADRATICS}, got {quadratic!r}'
            )
        if eps <= 0:
            raise InputError(f'VDFDRegulariser: eps must be positive, got {eps}')
        self.eps = eps
        self.quadratic = quadratic
        self.optimizer = optimizer or dict(type='Adam', lr=5e-4, weight_decay=5e-4)
        self._covariance = dict(covariance or {})
        self._graph: tuple[Tensor, Tensor, Tensor] | None = None
        self._present = torch.zeros(0, 0, dtype=torch.bool)
        self._places = torch.zeros(0, dtype=torch.int64)
        self._cells = torch.zeros(0)

    def attach(self, network: nn.Module) -> None:
        """Build the graph network for the width of the segmentor's classifier."""
        _, classifier = main_classifier(network)
        self.graph_network = PrecisionNetwork(classifier.in_channels, **self._covariance)

    def set_earlier_steps(
        self,
        steps: Sequence[OutputGradients],
        network: nn.Module,
        previous: Mapping[str, Tensor],
        step_size: float = 0.0,
        moves: InitialMoves | None = None,
    ) -> None:
        """Take the gradients as in DFD, and the classifier's rows in ``previous`` as features."""
        super().set_earlier_steps(steps, network, previous, step_size, moves)
        if self._earlier is None:
            return
        anchor = self._earlier.anchor
        device = anchor.device
        rows = previous[f'{main_classifier(network)[0]}.weight'].flatten(1).to(device)
        # Merged classes are represented by the first of them.
        self._graph = node_graph(
            [rows[[node[0] for node in nodes]] for nodes in self._earlier.nodes]
        )
        counts = torch.tensor([len(nodes) for nodes in self._earlier.nodes], device=device)
        self._cells = torch.tensor(self._earlier.cells, dtype=anchor.dtype, device=device)
        self._present = torch.arange(int(counts.max()), device=device) < counts.unsqueeze(1)
        # The places are found once: a mask as index would make every iteration wait for the device.
        self._places = self._present.flatten().nonzero().squeeze(1)

    def factors(self) -> Tensor:
        """Return P of every earlier step, ``(T, C, d)``; 0 for nodes that a step does not have."""
        assert self._graph is not None
        rows = self.graph_network(*self._graph)
        factors = rows.new_zeros(self._present.numel(), rows.shape[1])
        return factors.index_copy(0, self._places, rows).unflatten(0, self._present.shape)

    def _without_earlier_steps(self) -> dict[str, Tensor]:
        # Under DistributedDataParallel every parameter must take part.
        parameters: Any = self.graph_network.parameters()
        return {self.loss_name: 0.0 * sum(parameter.sum() for parameter in parameters)}

    def _losses(self, changes: Tensor) -> dict[str, Tensor]:
        factors = self.factors()
        quadratics = self._quadratics(changes, factors, self.eps, self.quadratic)
        log_dets = self._cells * log_det_covariance(factors, self.eps, self._present)
        nothing = torch.zeros_like(quadratics)
        quadratic = accumulate(quadratics, nothing, self.accumulation)
        log_det = accumulate(nothing, log_dets, self.accumulation)
        return {
            self.loss_name: self.weight * quadratic,
            f'{APART}{self.loss_name.removeprefix("loss_")}': self.weight * log_det,
            'vdfd_quadratic': quadratics.sum().detach(),
            'vdfd_log_det': log_dets.sum().detach(),
        }
