"""Walks with SDR: prototypes are gathered from step 0 on, handed on, resumed and made anew."""

import itertools
import json
import math

import pytest
import torch

from mmseg_cil.engine.config.compose import compose
from mmseg_cil.engine.config.published import as_published
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.methods.sdr.hook import prototypes_of_images
from mmseg_cil.methods.sdr.prototypes import FILE_NAME, Prototypes
from mmseg_cil.methods.sdr.reference import features_of
from mmseg_cil.models.head_losses import stack_labels
from mmseg_cil.models.network_output import run_network
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.networks import base_step, batch, network, next_step
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights, at, killed, logged, seasons

LOSSES = {f'distill.loss_sdr_{name}' for name in ('match', 'attraction', 'separation', 'sparsity')}


def kept(work_dir, step):
    return Prototypes.load(work_dir / f'step_{step:02d}' / FILE_NAME)[0]


def assert_same(ours, theirs, *steps):
    for step in steps:
        assert torch.equal(kept(ours, step).means, kept(theirs, step).means)
        assert torch.equal(kept(ours, step).counts, kept(theirs, step).counts)


@pytest.fixture(scope='module')
def sdr_dir(data_root, tmp_path_factory):
    """A walk of three steps, rehearsed."""
    work_dir = tmp_path_factory.mktemp('sdr')
    WalkRunner(tiny_config(data_root, 'sdr', rehearsal=True), work_dir).run()
    return work_dir


def test_a_walk_has_the_losses_of_mib_and_its_own(sdr_dir):
    for step in (1, 2):
        lines = logged(sdr_dir, step)
        named = {name for name in lines[-1] if name.startswith(('decode.loss', 'distill.'))}
        assert named == {'decode.loss_unce', 'distill.loss_unkd', *LOSSES}
        assert all(math.isfinite(line['loss']) for line in lines)
        for name in ('attraction', 'sparsity'):
            assert all(line[f'distill.loss_sdr_{name}'] > 0 for line in lines)
    assert any(line['distill.loss_sdr_match'] > 0 for line in logged(sdr_dir, 2))
    assert not any('distill' in name for name in logged(sdr_dir, 0)[-1])


def test_each_step_adds_its_classes_and_keeps_the_others(sdr_dir):
    found = [kept(sdr_dir, step) for step in range(3)]
    assert [len(each.means) for each in found] == [3, 4, 5]
    for before, after in itertools.pairwise(found):
        # Labels hide old classes, so nothing is added to them.
        known = len(before.means)
        assert torch.equal(after.means[:known], before.means)
        assert torch.equal(after.counts[:known], before.counts)
    assert found[2].counts[0] == 0 and (found[2].counts[1:] > 0).all()
    assert (found[2].means[1:].norm(dim=1) > 0).all()
    # A checkpoint is plain.
    path = sdr_dir / 'step_02/checkpoint.pth'
    assert not any('proto' in key for key in torch.load(path, weights_only=True)['state_dict'])
    steps = json.loads((sdr_dir / 'journal.json').read_text())['steps']
    assert all(FILE_NAME in step['kept_sha256'] for step in steps)


@pytest.mark.parametrize('step', [0, 1])
def test_a_killed_step_goes_on_with_its_prototypes(step, sdr_dir, data_root, tmp_path):
    cfg = tiny_config(data_root, 'sdr')
    start = dict(start_from=str(sdr_dir)) if step else {}
    with killed(at(step=step, iteration=3)):
        WalkRunner(cfg, tmp_path, steps=str(step), **start).run()
    state = torch.load(tmp_path / f'step_{step:02d}/resume.pth', weights_only=False)
    assert state['sdr_prototypes']['counts'].sum() > 0
    WalkRunner(cfg, tmp_path, steps=str(step), resume=True).run()
    assert_same(sdr_dir, tmp_path, step)
    assert_same_weights(sdr_dir, tmp_path, step)


def test_a_first_step_of_another_method_gets_prototypes_of_its_images(sdr_dir, data_root, tmp_path):
    WalkRunner(tiny_config(data_root, 'mib'), tmp_path / 'base', steps='0').run()
    assert not (tmp_path / 'base/step_00' / FILE_NAME).exists()
    cfg = tiny_config(data_root, 'sdr')
    WalkRunner(cfg, tmp_path / 'sdr', start_from=str(tmp_path / 'base'), steps='1').run()
    made = kept(tmp_path / 'sdr', 0)
    assert made.counts[0] == 0 and (made.counts[1:] > 0).all()
    # MiB's first step is SDR's, but for the prototypes, which are means over SDR's training.
    assert_same_weights(sdr_dir, tmp_path / 'sdr', 0)
    assert not torch.equal(made.means, kept(sdr_dir, 0).means)
    assert all(math.isfinite(line['loss']) for line in logged(tmp_path / 'sdr', 1))


@pytest.mark.parametrize('predicted', [False, True])
def test_a_pass_makes_the_means_of_new_classes_and_keeps_the_others(predicted, tmp_path):
    base_step(network(), tmp_path / 'base.pth')
    model = next_step(network(), tmp_path / 'base.pth').train()
    batches = [batch(5, size=96, seed=seed) for seed in (1, 2)]
    found = prototypes_of_images(
        model,
        [dict(inputs=list(images), data_samples=samples) for images, samples in batches],
        Prototypes(torch.ones(3, 64), torch.tensor([0, 7, 8])),
        predicted,
    )
    assert model.training
    model.eval()
    own = {class_id: [] for class_id in (3, 4)}
    for images, samples in batches:
        output = run_network(model, images)
        labels = stack_labels(samples)[:, ::16, ::16]
        assert labels.shape[1:] == output.features[-1].shape[2:]
        ids = output.logits.argmax(dim=1) if predicted else labels
        for class_id, kept_of in own.items():
            kept_of.append(features_of(output.features[-1], ids, class_id))
    assert torch.equal(found.means[:3], torch.ones(3, 64)) and found.counts[:3].tolist() == [
        0,
        7,
        8,
    ]
    for class_id, parts in own.items():
        everything = torch.cat(parts, dim=1)
        assert found.counts[class_id] == everything.shape[1]
        expected = everything.sum(dim=1) / max(everything.shape[1], 1)
        torch.testing.assert_close(found.means[class_id], expected)
    assert found.counts[3:].any()


@pytest.mark.walk
def test_by_domain_every_class_has_a_label_and_all_steps_add_to_it(data_root, tmp_path):
    cfg = tiny_config(data_root, 'sdr')
    cfg.protocol = seasons(['early', 'late'], ['last'])
    WalkRunner(cfg, tmp_path).run()
    first, second = (kept(tmp_path, step).counts for step in (0, 1))
    assert (first > 0).all() and (second >= first).all() and second.sum() > first.sum()
    lines = logged(tmp_path, 1)
    assert all(line['distill.loss_sdr_match'] > 0 for line in lines)


@pytest.mark.walk
def test_forms_that_differ_are_refused_before_training(data_root, tmp_path):
    cfg = tiny_config(data_root, 'sdr')
    cfg.method.distillers[1].form = 'official'
    with pytest.raises(InputError, match='give both the same'):
        WalkRunner(cfg, tmp_path).prepare()


def test_as_published_takes_the_choices_of_the_official_code():
    cfg = as_published(compose(dict(method='sdr', protocol='voc_19-1')))
    assert cfg.method.name == 'sdr_paper' and cfg.protocol.preset == 'mib'
    ours = compose(dict(method='sdr', protocol='voc_19-1')).method.to_dict()
    theirs = cfg.method.to_dict()
    for part in (ours['distillers'][1], ours['custom_hooks'][0]):
        assert part['form'] == 'fixed'
        part['form'] = 'official'
    changes = dict(name='sdr_paper', classifier_init='conv_default')
    assert {**ours, **changes} == theirs


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', ['sdr', 'sdr_paper'])
def test_it_does_what_every_method_does(method, tmp_path):
    check_method(method, tmp_path)
    # Two processes have the prototypes of one, but for rounding (and the official form's places).
    for step in (0, 1):
        alone, both = (kept(tmp_path / 'processes' / name, step) for name in ('one', 'two'))
        assert torch.equal(alone.counts, both.counts)
        if method == 'sdr':
            torch.testing.assert_close(alone.means, both.means, rtol=1e-4, atol=1e-5)
