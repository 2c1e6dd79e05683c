"""LwF, LwF-MC, ILT and MiB weigh their losses as published, under every protocol."""

import pytest

from mmseg_cil.engine.config.compose import read_piece
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.protocols import NAMED

WEIGHTS = {
    'lwf': {'KnowledgeDistillationLoss': 100.0},
    'lwf_mc': {'SigmoidDistillationLoss': 10.0},
    'ilt': {'KnowledgeDistillationLoss': 100.0, 'FeatureDistillationLoss': 100.0},
    # Also on VOC 15-1, as --method MiB of every official script.
    'mib': {'UnbiasedKnowledgeDistillationLoss': 10.0},
}


@pytest.mark.parametrize('method', WEIGHTS)
def test_the_weights_are_the_published_ones(method):
    piece = read_piece('method', method)
    for protocol in NAMED:
        losses = [distiller['loss'] for distiller in method_of(piece, protocol)['distillers']]
        assert {loss['type']: loss['loss_weight'] for loss in losses} == WEIGHTS[method]
