"""LwF, LwF-MC and ILT weigh their losses as published, under every protocol."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_cil.engine.config.method import method_of

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = {
    'lwf': {'KnowledgeDistillationLoss': 100.0},
    'lwf_mc': {'SigmoidDistillationLoss': 10.0},
    'ilt': {'KnowledgeDistillationLoss': 100.0, 'FeatureDistillationLoss': 100.0},
}


@pytest.mark.parametrize('method', WEIGHTS)
def test_the_weights_are_the_published_ones(method):
    names = set()
    for path in ROOT.glob(f'configs/{method}/*.py'):
        cfg = Config.fromfile(path)
        names.add(cfg.protocol.name)
        losses = [one['loss'] for one in method_of(cfg, cfg.protocol.name)['distillers']]
        assert {one['type']: one['loss_weight'] for one in losses} == WEIGHTS[method]
    theirs = {path.stem.split('_', 1)[1] for path in ROOT.glob('configs/mib/*.py')}
    ours = {path.stem.removeprefix(f'{method}_') for path in ROOT.glob(f'configs/{method}/*.py')}
    assert ours == theirs and names
