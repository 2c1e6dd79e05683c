"""A small network and drawn gradients of its outputs, as earlier steps of VDFD keep them."""

from dataclasses import replace

import torch
from torch import nn

from mmseg_cil.methods.vdfd.compression import OutputGradients, compress
from mmseg_cil.methods.vdfd.filters import block_heights, num_rows, order_by_rows
from mmseg_cil.models.parsed_losses import ParsedLosses
from mmseg_cil.registry import MODELS


class Network(nn.Module):
    """Convolution and norm, and a classifier."""

    def __init__(self, classes=5):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        )
        self.decode_head = nn.Module()
        self.decode_head.conv_seg = nn.Conv2d(16, classes, 1)


class Segmentor(ParsedLosses):
    def forward(self, *args, **kwargs):
        raise NotImplementedError


def body(network):
    tensors = {
        name: parameter
        for name, parameter in network.named_parameters()
        if name.startswith('backbone')
    }
    return {name: tensors[name] for name in order_by_rows(tensors)}


def gradients_of(tensors, nodes, seed=0, rank=1, cells=1, average=True, apart=()):
    """Drawn gradients of a step that ended with these weights."""
    rows = tuple(num_rows(tensor, average) for tensor in tensors.values())
    outputs = len(nodes) * cells
    drawn = torch.randn(sum(rows), outputs, generator=torch.Generator().manual_seed(seed))
    kept = OutputGradients(
        tuple(tensors),
        rows,
        *compress(drawn, block_heights(tensors, rows, apart), rank),
        torch.zeros(outputs),
        tuple((node,) for node in nodes),
        cells,
        average,
        apart,
    )
    return replace(kept, projection=kept.project(tensors))


def state_of(network):
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def move(network, seed=1, scale=0.1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def build(kind='VDFDRegulariser', network=None, **options):
    regulariser = MODELS.build(dict(type=kind, **options))
    if hasattr(regulariser, 'attach'):
        regulariser.attach(network)
    return regulariser


def over_weights(step, network):
    """Gradients ``(W, N)`` over single weights, each row the same for all of its weights."""
    own = dict(network.named_parameters())
    parts = [
        rows.repeat_interleave(own[name][0].numel(), dim=0)
        for name, rows in zip(step.names, step.dense().split(list(step.rows)), strict=True)
    ]
    return torch.cat(parts).double()
