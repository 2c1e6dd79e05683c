"""The precision matrix of a step's outputs, and the graph network that computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def normalise_adjacency(affinity: Tensor) -> Tensor:
    r"""Add self-loops and normalise symmetrically, :math:`D^{-1/2} (A + I) D^{-1/2}`.

    A negative degree (cosines may be negative) has no square root, so the node is cut
    off: its row and column are 0, as in the official code. A degree of exactly 0, whose
    inverse root is infinite in the official code, is treated in the same way.

    Source: XiaorongLi-95/VDFD ``task_incremental/models/gcn.py``, ``preprocess_adj``.

    Args:
        affinity: ``(..., C, C)``, symmetric. The diagonal holds 1 already and
            becomes 2 before the normalisation.

    Returns:
        ``(..., C, C)``.
    """
    looped = affinity + torch.eye(affinity.shape[-1]).to(affinity)
    degree = looped.sum(dim=-2)  # (..., C)
    roots = torch.where(degree > 0, degree.clamp(min=torch.finfo(degree.dtype).tiny).rsqrt(), 0.0)
    # (..., C, 1) * (..., C, C) * (..., 1, C).
    return roots.unsqueeze(-1) * looped * roots.unsqueeze(-2)


class PrecisionNetwork(nn.Module):
    r"""Two graph convolutions whose normalised outputs P give the precision :math:`P P^T`.

    Nodes are the outputs of a step, features of the nodes are the normalised rows of the
    classifier, and the adjacency holds the cosines between these rows. The graphs of
    several steps are run as one graph without edges between steps. One network serves
    all steps.

    Source: XiaorongLi-95/VDFD ``models/gcn.py`` and ``agents/vdfd.py``: the
    task-incremental code has D, D // 16, D // 8 channels; the class-incremental code
    has D, D, D channels and adds the features to the output (``residual``). The layers
    are PyTorch Geometric's ``GCNConv`` with our normalised weights of the edges,
    because the self-loops of ``GCNConv`` leave the diagonal at 1. The initial values of
    the layers are those of ``nn.Linear``, as in the official code.

    Args:
        channels: D, the columns of the classifier.
        hidden_channels: Channels of the first layer. Defaults to D // 16 (at least 1), or D
            with ``residual``.
        out_channels: Columns of P. Defaults to D // 8 (at least 1), or D with
            ``residual``.
        residual: P is the second layer's output plus the features, before rows
            are normalised; needs ``out_channels`` = D.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int | None = None,
        out_channels: int | None = None,
        residual: bool = False,
    ) -> None:
        super().__init__()
        # Importing PyTorch Geometric takes seconds, which only VDFD should pay.
        from torch_geometric.nn import GCNConv

        hidden_channels = hidden_channels or (channels if residual else max(1, channels // 16))
        out_channels = out_channels or (channels if residual else max(1, channels // 8))
        if residual and out_channels != channels:
            raise ValueError(f'residual adds {channels} features to {out_channels} outputs')
        self.residual = residual
        self.layers = nn.ModuleList(
            [
                GCNConv(channels, hidden_channels, normalize=False),
                GCNConv(hidden_channels, out_channels, normalize=False),
            ]
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial values as ``nn.Linear`` does."""
        for layer in self.layers:
            bound = 1.0 / math.sqrt(layer.in_channels)  # type: ignore[arg-type]
            for value in layer.parameters():
                nn.init.uniform_(value, -bound, bound)

    def forward(self, features: Tensor, edges: Tensor, edge_weights: Tensor) -> Tensor:
        """Return the rows of P of all nodes.

        Args:
            features: ``(V, D)``, see :func:`node_graph`.
            edges: ``(2, E)`` from node, to node.
            edge_weights: ``(E,)``.

        Returns:
            ``(V, out_channels)``, rows of length 1.
        """
        first, second = self.layers
        hidden = functional.relu(first(features, edges, edge_weights))  # (V, hidden_channels)
        output = second(hidden, edges, edge_weights)  # (V, out_channels)
        return functional.normalize(output + features if self.residual else output, dim=-1)


def node_graph(prototypes: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Join the graphs of several steps into one.

    Args:
        prototypes: For each step the classifier's rows of its nodes ``(C_i, D)``.

    Returns:
        Features ``(V, D)`` of length 1, edges ``(2, E)`` and their weights ``(E,)``;
        V is the sum of the C_i, E the sum of their squares.
    """
    features, edges, weights, start = [], [], [], 0
    for rows in prototypes:
        unit = functional.normalize(rows, dim=1)  # (C_i, D), rows of length 1
        adjacency = normalise_adjacency(unit @ unit.T)  # (C_i, C_i)
        count = len(rows)
        features.append(unit)
        # (C_i^2,): the adjacency is symmetric, so the order of from and to does not matter.
        weights.append(adjacency.flatten())
        # Numbers of the nodes in the joint graph (C_i,), and all pairs of them (2, C_i^2).
        nodes = torch.arange(start, start + count, device=rows.device)
        edges.append(torch.cartesian_prod(nodes, nodes).reshape(-1, 2).T)
        start += count
    return torch.cat(features), torch.cat(edges, dim=1), torch.cat(weights)


def log_det_covariance(factors: Tensor, eps: float, present: Tensor | None = None) -> Tensor:
    r"""Compute the log-determinant of :math:`\Sigma = (P P^T + \epsilon I)^{-1}` for every step.

    The computation is a Cholesky decomposition in float64. The official ``log(1 / det(.))``
    underflows from 16 classes on; the result here is finite for any number of classes.

    Args:
        factors: P, ``(T, C, d)``. Rows of nodes that a step does not have are 0.
        eps: Epsilon, positive.
        present: ``(T, C)``, False for nodes that a step does not have. By default every
            step has all nodes.

    Returns:
        ``(T,)`` in the type of ``factors``.
    """
    exact = factors.double()  # (T, C, d)
    diagonal = torch.full(factors.shape[:2], eps, dtype=torch.float64, device=factors.device)
    if present is not None:
        # A node that the step does not have must contribute log(1).
        diagonal = torch.where(present, diagonal, 1.0)
    # (T, C, C): positive definite by construction; checking it would make the device wait.
    matrix = exact @ exact.transpose(1, 2) + torch.diag_embed(diagonal)
    # (T, C): diagonal of the Cholesky factor; the determinant is the square of its product.
    roots = torch.linalg.cholesky_ex(matrix).L.diagonal(dim1=1, dim2=2)
    return (-2.0 * roots.log().sum(dim=1)).to(factors.dtype)
