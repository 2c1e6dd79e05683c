"""The network of a step is built of the method and model that ``step_overrides`` give."""

import pytest
from mmengine.registry import init_default_scope

from mmseg_cil.engine.config.step_config import StepInputs, derive_step_config
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.tiny import tiny_config


def network(cfg, tmp_path, step):
    """The network of a step, without weights."""
    init_default_scope('mmseg_cil')
    walk = prepare_walk(cfg, tmp_path)
    known = dict(checkpoint='', num_classes=len(walk.protocol.steps[max(0, step - 1)].seen))
    inputs = StepInputs(known if step else None, known if step else None, walk.train_images)
    config = derive_step_config(cfg, walk.protocol, step, inputs, tmp_path)
    return MODELS.build(config.model)


def test_method_and_model_of_a_step_reach_its_network(data_root, tmp_path):
    cfg = tiny_config(
        data_root,
        **{
            'step_overrides.2': {
                'method.distillers.0.loss.loss_weight': 7.0,
                'model.decode_head.dropout_ratio': 0.4,
            }
        },
    )
    plain, changed = (network(cfg, tmp_path, step) for step in (1, 2))
    weights = [model.distillers[0].loss.loss_weight for model in (plain, changed)]
    assert weights[1] == 7.0 != weights[0]
    assert [model.decode_head.dropout.p for model in (plain, changed)] == [0.1, 0.4]
    # A value that the step does not name is that of all steps.
    assert changed.auxiliary_head.dropout.p == 0.1


@pytest.mark.parametrize(
    'changes',
    [{'method.distillers.0.loss.type': 'NoSuchLoss'}, {'model.decode_head.type': 'NoSuchLoss'}],
)
@pytest.mark.parametrize('step', ['1', '2', 'later'])
def test_a_network_that_only_a_step_cannot_build_is_refused_at_once(
    data_root, tmp_path, step, changes
):
    cfg = tiny_config(data_root, **{f'step_overrides.{step}': changes})
    with pytest.raises(InputError, match='NoSuchLoss'):
        WalkRunner(cfg, tmp_path / 'walk').prepare()
    assert not (tmp_path / 'walk/journal.json').exists()
