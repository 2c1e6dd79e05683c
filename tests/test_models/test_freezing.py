"""A method freezes norm statistics and parameters in later steps, by name."""

import copy
import math

import pytest
import torch
from mmengine.model import convert_sync_batchnorm

from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.engine.config.provenance import described
from mmseg_cil.engine.preflight.parts import expected_inputs
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.step_configs import training_config
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.models.freezing import norms_with_statistics
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.networks import base_step, batch, network, next_step, segmentor
from mmseg_cil.testing.tiny import tiny_config, weights

STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')


def later(tmp_path, freezing, head='ASPPHead', **arguments):
    """A segmentor at step 1 that was trained for a batch, and its weights before that."""
    base_step(network(head), tmp_path / 'base.pth')
    model = next_step(
        network(head), tmp_path / 'base.pth', distillers=(), freezing=freezing, **arguments
    )
    before = copy.deepcopy(model.state_dict())
    # Whoever looks at the network in between puts it back by train().
    model.eval()
    model.train()
    learn(model)
    return model, before


def learn(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    images, samples = batch(model.step.num_seen)
    losses = model.loss(images, samples)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    optimizer.step()


def moved(model, before):
    return {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}


def test_statistics_stand_still_where_they_are_named_and_scales_still_train(tmp_path):
    model, before = later(tmp_path, dict(norm_statistics=['decode_head']))
    changed = moved(model, before)
    assert not any(key.startswith('decode_head') and key.endswith(STATISTICS) for key in changed)
    assert {f'backbone.bn1.{name}' for name in STATISTICS} <= changed
    scales = {f'decode_head.bottleneck.bn.{name}' for name in ('weight', 'bias')}
    assert scales <= changed
    # In training the head normalises as in evaluation.
    assert not model.decode_head.bottleneck.bn.training and model.decode_head.training


def test_nothing_is_held_at_the_first_step_that_trains(tmp_path):
    freezing = dict(norm_statistics=['*'], parameters=['backbone'])
    model = segmentor(network(), [3], freezing=freezing)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.train().modules())
    # Steps before it had nothing to learn.
    context = dict(index=1, class_steps=[0, 0, 1], has_background=True, old_labels_hidden=True)
    content = dict(model._network_config, type='IncrementalEncoderDecoder', freezing=freezing)
    first = MODELS.build(dict(content, step=dict(context, trained=[])))
    assert all(parameter.requires_grad for parameter in first.parameters())
    second = MODELS.build(dict(content, step=dict(context, trained=[0])))
    assert not any(parameter.requires_grad for parameter in second.backbone.parameters())


def test_parameters_stand_still_and_decay_does_not_move_them(tmp_path):
    model, before = later(tmp_path, dict(parameters=['backbone.layer[12]', '*.conv_seg.bias']))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert 'decode_head.conv_seg.bias' in frozen and 'backbone.layer2.1.conv1.weight' in frozen
    assert all(
        name.startswith(('backbone.layer1.', 'backbone.layer2.'))
        for name in frozen
        if name != 'decode_head.conv_seg.bias'
    )
    changed = moved(model, before)
    assert not frozen & changed
    # Their norms' statistics are another matter.
    assert {'backbone.layer3.0.conv1.weight', 'backbone.layer1.0.bn1.running_mean'} <= changed


def test_what_is_excepted_trains_and_all_else_stands_still(tmp_path):
    model, before = later(
        tmp_path, dict(evaluation=['*'], parameters=['*'], excepted=['*.conv_seg'])
    )
    assert moved(model, before) == {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}


def test_modules_named_for_evaluation_compute_as_in_evaluation(tmp_path):
    freezing = dict(evaluation=['decode_head.dropout', 'backbone'])
    model, before = later(tmp_path, freezing)
    assert not model.decode_head.dropout.training and model.decode_head.bottleneck.bn.training
    assert model.backbone.training and not model.backbone.layer1[0].bn1.training
    changed = moved(model, before)
    assert not any(key.startswith('backbone') and key.endswith(STATISTICS) for key in changed)
    assert 'backbone.layer1.0.conv1.weight' in changed
    images = batch(5)[0]
    outputs = [model.decode_head.dropout(images) for _ in range(2)]
    assert torch.equal(*outputs) and torch.equal(outputs[0], images)


def test_both_branches_of_a_changed_network_are_held(tmp_path):
    model, before = later(
        tmp_path,
        dict(norm_statistics=['decode_head', 'backbone']),
        network_change=dict(type='ParallelBranches'),
    )
    assert any('second.norm.running_mean' in key for key in before)
    assert not any(key.endswith(STATISTICS) for key in moved(model, before))
    model.make_plain()
    assert not model.train().decode_head.aspp_modules[0].bn.training


def test_norms_that_a_runner_replaces_are_held_too(tmp_path):
    model, _ = later(tmp_path, dict(norm_statistics=['decode_head']))
    replaced = convert_sync_batchnorm(model)
    norm = replaced.decode_head.bottleneck.bn
    assert isinstance(norm, torch.nn.SyncBatchNorm)
    replaced.train()
    assert not norm.training and replaced.backbone.bn1.training


@pytest.mark.parametrize(
    ('freezing', 'message'),
    [
        (dict(norm_statistics=['decode_heads']), "has 'decode_heads', and the network has no norm"),
        (dict(norm_statistics=['decode_head.conv_seg']), 'no norm with running statistics'),
        (dict(norm_statistics=['regularisers']), 'no norm'),
        (dict(parameters=['backbone', 'backbone.layer9']), "has 'backbone.layer9'.*no parameter"),
        (dict(evaluation=['decode_head.dropouts']), "has 'decode_head.dropouts'.*no module"),
        (dict(parameters=['*'], excepted=['*.conv_sge']), r"excepted has '\*.conv_sge'"),
        (dict(rates={'backbon': 0.1}), "rates has 'backbon'.*no parameter"),
    ],
)
def test_a_pattern_that_finds_nothing_is_refused(freezing, message):
    with pytest.raises(InputError, match=message):
        segmentor(network(), [3, 2], freezing=freezing)


def test_a_whole_part_may_be_without_norms_that_have_statistics():
    config = network(num_convs=0, concat_input=False, in_channels=64, channels=64)
    model = segmentor(config, [3, 2], freezing=dict(norm_statistics=['decode_head']))
    assert not any('decode_head' in name for name, _ in norms_with_statistics(model))
    model.train()
    assert model.backbone.bn1.training


@pytest.mark.parametrize(
    ('freezing', 'message'),
    [
        (dict(norm_statistic=['a']), "did you mean 'norm_statistics'"),
        (dict(norm_statistics='decode_head'), 'must be a list of names'),
        (dict(parameters=[3]), 'must be a list of names'),
        (dict(excepted=['*.conv_seg']), 'no parameter is frozen: name parameters too'),
        (['decode_head'], 'must be a dict'),
        (dict(old_rows=1), 'must be True or False'),
        (dict(rates=['backbone']), 'must be a dict of factors'),
        (dict(rates={'backbone': 0}), r"rates\['backbone'\] is 0; it must be a number above 0"),
        (dict(rates={'backbone': 'slow'}), "is 'slow'; it must be a number"),
        (dict(rates={'backbone': True}), 'is True; it must be a number'),
    ],
)
def test_a_declaration_of_another_form_is_refused(freezing, message):
    with pytest.raises(InputError, match=message):
        MethodConfig.from_config(dict(name='mine', freezing=freezing))


@pytest.fixture(scope='module')
def cfg(data_root):
    cfg = tiny_config(data_root, 'finetune')
    cfg.method.freezing = dict(
        norm_statistics=['decode_head'], parameters=['backbone.layer1'], old_rows=True
    )
    cfg.method.classifier_init = 'balanced'
    return cfg


def test_a_walk_holds_them_from_step_to_step(cfg, tmp_path):
    WalkRunner(cfg, tmp_path, steps='0-1').run()
    before, after = weights(tmp_path, 0), weights(tmp_path, 1)
    for key, value in before.items():
        same = torch.equal(value, after[key]) if value.shape == after[key].shape else False
        named = key.startswith('decode_head') and key.endswith(STATISTICS)
        if named or (key.startswith('backbone.layer1') and not key.endswith(STATISTICS)):
            assert same, key
        elif key.endswith('running_mean'):
            assert not same, key
        elif 'conv_seg' in key:
            rows = value.clone()
            if key.endswith('bias'):
                # As the initialisation has left the background.
                rows[0] -= math.log(2)
            assert torch.equal(after[key][:3], rows), key


def test_a_walk_learns_at_the_rates_of_its_method_in_later_steps_alone(data_root, tmp_path):
    rates = {'backbone': 1e-30, 'decode_head.conv_seg': 0.5}
    ends = []
    for given in (None, rates):
        cfg = tiny_config(data_root, 'finetune')
        cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.01)
        if given:
            cfg.method.freezing = dict(rates=given)
        folder = tmp_path / str(bool(given))
        WalkRunner(cfg, folder, steps='0-1').run()
        ends.append([weights(folder, step) for step in (0, 1)])
    plain, rated = ends
    assert all(torch.equal(value, rated[0][key]) for key, value in plain[0].items())
    learnt = {
        run: {
            key
            for key, value in after.items()
            if not key.endswith(STATISTICS)
            and not torch.equal(value[: len(before[key])], before[key])
        }
        for run, (before, after) in (('plain', plain), ('rated', rated))
    }
    in_backbone = {key for key in learnt['plain'] if key.startswith('backbone')}
    assert in_backbone and learnt['rated'] == learnt['plain'] - in_backbone
    assert not torch.equal(*(run[1]['decode_head.conv_seg.weight'] for run in (plain, rated)))


def test_a_step_says_who_holds_what(cfg, tmp_path):
    walk = prepare_walk(cfg, tmp_path)
    derived = training_config(walk, 1, expected_inputs(walk, 1))
    lines = list(described(walk, 1, derived))
    assert "model.freezing.norm_statistics = ['decode_head']  # method" in lines


def test_a_walk_is_refused_before_training_where_a_name_is_wrong(data_root, tmp_path):
    cfg = tiny_config(data_root, 'finetune')
    cfg.method.freezing = dict(norm_statistics=['decode_hed'])
    with pytest.raises(InputError, match='decode_hed'):
        WalkRunner(cfg, tmp_path).prepare()
