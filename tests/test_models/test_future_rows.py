"""Rows of classes to come: trained beside those of the step, cut off, and handed on."""

import copy

import pytest
import torch

from mmseg_cil.errors import InputError
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.networks import base_step, batch, network, next_step, segmentor, snapshot

CHANGE = dict(network_change=dict(type='FutureRows'))
FILE = 'network_change.pth'


def first_step(config, num_future=3, **arguments):
    """A network of 3 classes at step 0, with ``num_future`` classes to come."""
    torch.manual_seed(0)
    return grown(config, [3], num_future, **arguments)


def grown(config, counts, num_future, **arguments):
    model = segmentor(config, counts, **{**CHANGE, **arguments})
    content = dict(model._network_config, type='IncrementalEncoderDecoder')
    step = dict(
        index=len(counts) - 1,
        class_steps=[step for step, count in enumerate(counts) for _ in range(count)],
        has_background=True,
        old_labels_hidden=True,
        num_future=num_future,
    )
    built = MODELS.build(dict(content, step=step, **{**CHANGE, **arguments}))
    built.init_weights()
    return built


def learn(model, classes=3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = model.train().loss(*batch(classes))
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    optimizer.step()
    return losses


def saved(model, folder):
    """Finish a step and write its files, as a walk does."""
    folder.mkdir()
    kept = model.make_plain()
    torch.save(dict(state_dict=plain_state_dict(model.state_dict())), folder / 'checkpoint.pth')
    if kept:
        torch.save(kept, folder / FILE)
    return kept


@pytest.mark.parametrize('head', ['FCNHead', 'ASPPHead'])
def test_the_softmax_sees_them_and_learns_that_they_are_not_there(head):
    model = first_step(network(head, 'single', loss='PixelCrossEntropyLoss'))
    images, samples = batch(3)
    before = {name: copy.deepcopy(part.conv_seg_future) for name, part in model.heads.items()}
    logits = model.decode_head(model.extract_feat(images))
    assert logits.shape[1] == 6 and set(before) == {'decode_head', 'auxiliary_head'}
    loss = learn(model)['decode.loss_ce']
    labels = torch.stack([sample.gt_sem_seg.data for sample in samples]).squeeze(1)
    assert loss > 0 and labels.max() == 255
    for name, part in model.heads.items():
        # No pixel has their label, so their biases can only fall.
        assert (part.conv_seg_future.bias < before[name].bias).all()


def test_the_loss_is_that_of_a_classifier_with_as_many_rows_more():
    config = network(loss='PixelCrossEntropyLoss', dropout_ratio=0.0)
    model, wide = first_step(config).train(), segmentor(config, [6]).train()
    state = plain_state_dict(model.state_dict())
    for part in ('weight', 'bias'):
        key = f'decode_head.conv_seg.{part}'
        state[key] = torch.cat([state[key], state.pop(f'decode_head.conv_seg_future.{part}')])
    wide.load_state_dict(state)
    found, expected = (each.loss(*batch(3))['decode.loss_ce'] for each in (model, wide))
    torch.testing.assert_close(found, expected)
    assert expected > segmentor(config, [3]).train().loss(*batch(3))['decode.loss_ce']


def test_they_are_cut_off_and_the_network_is_plain_and_predicts_the_same():
    model = first_step(network('FCNHead', 'single'))
    plain = segmentor(network('FCNHead', 'single'), [3])
    learn(model)
    images, samples = batch(3)
    metas = [sample.metainfo for sample in samples]
    expected = model.eval().encode_decode(images, metas)
    assert expected.shape[1] == 3
    future = model.decode_head.conv_seg_future.weight.detach().clone()
    kept = model.make_plain()
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(model.encode_decode(images, metas), expected)
    assert model.decode_head(model.extract_feat(images)).shape[1] == 3
    assert torch.equal(kept['decode_head.conv_seg.weight'], future) and kept['first'] == 3


def test_new_classes_and_those_after_them_go_on_with_their_rows(tmp_path):
    config = network('FCNHead', 'single')
    model = first_step(config)
    learn(model)
    kept = saved(model, tmp_path / 'step_00')
    old = snapshot(tmp_path / 'step_00/checkpoint.pth', 3)
    parts = dict(previous=old, teacher=old, classifier_init='balanced')
    later = grown(config, [3, 2], 1, **parts)
    for name, head in later.heads.items():
        for part in ('weight', 'bias'):
            rows = kept[f'{name}.conv_seg.{part}']
            assert torch.equal(getattr(head.conv_seg, part)[3:], rows[:2])
            assert torch.equal(getattr(head.conv_seg_future, part), rows[2:])
    # The last step has no further ones, and its class begins with the last row.
    saved(later, tmp_path / 'step_01')
    handed = torch.load(tmp_path / 'step_01' / FILE)
    old = snapshot(tmp_path / 'step_01/checkpoint.pth', 5)
    last = grown(config, [3, 2, 1], 0, previous=old, teacher=old)
    rows = handed['decode_head.conv_seg.weight']
    assert torch.equal(last.decode_head.conv_seg.weight[5:], rows)
    assert not hasattr(last.decode_head, 'conv_seg_future') and last.make_plain() == {}


def test_where_none_were_handed_on_rows_begin_as_without_them(tmp_path):
    """As after a step of another method; or too few, where steps were added to a walk."""
    config = network()
    base_step(config, tmp_path / 'checkpoint.pth')
    old = snapshot(tmp_path / 'checkpoint.pth', 3)
    torch.manual_seed(5)
    model = grown(config, [3, 2], 4, previous=old, teacher=old, classifier_init='balanced')
    row, shifted = model.decode_head.conv_seg.weight, model.decode_head.conv_seg.bias
    assert torch.equal(row[3:], row[:1].expand(2, *row.shape[1:]))
    assert torch.equal(shifted[3:], shifted[:1].expand(2))
    # As the head draws its own: by a deviation of 0.01.
    future = model.decode_head.conv_seg_future
    assert 0.005 < future.weight.std() < 0.02 and not future.bias.any()
    few = {'first': torch.tensor(3)}
    few['decode_head.conv_seg.weight'] = torch.ones(1, *row.shape[1:])
    few['decode_head.conv_seg.bias'] = torch.ones(1)
    torch.save(few, tmp_path / FILE)
    model = grown(config, [3, 2], 4, previous=old, teacher=old, classifier_init='balanced')
    row = model.decode_head.conv_seg.weight
    assert (row[3] == 1).all() and torch.equal(row[4], row[0])
    assert model.decode_head.conv_seg_future.weight.std() < 0.02


def test_a_class_whose_step_did_not_train_has_its_row_later(tmp_path):
    config = network()
    model = first_step(config)
    kept = saved(model, tmp_path / 'step_00')
    # Step 1 added a class and had nothing to learn; its weights are plain.
    torch.manual_seed(1)
    untrained = next_step(config, tmp_path / 'step_00/checkpoint.pth', [3, 1], distillers=())
    (tmp_path / 'step_01').mkdir()
    path = tmp_path / 'step_01/checkpoint.pth'
    torch.save(dict(state_dict=plain_state_dict(untrained.state_dict())), path)
    model = grown(
        config,
        [3, 1, 1],
        1,
        previous=snapshot(path, 4),
        teacher=snapshot(tmp_path / 'step_00/checkpoint.pth', 3),
    )
    rows = kept['decode_head.conv_seg.weight']
    assert torch.equal(model.decode_head.conv_seg.weight[3:], rows[:2])
    assert torch.equal(model.decode_head.conv_seg_future.weight, rows[2:])


@pytest.mark.parametrize(
    ('loss', 'distiller'),
    [
        ('UnbiasedCrossEntropyLoss', dict(type='LocalPODDistiller')),
        (
            'PixelCrossEntropyLoss',
            dict(type='LogitDistiller', loss=dict(type='UnbiasedKnowledgeDistillationLoss')),
        ),
    ],
)
def test_distillers_see_the_classes_alone(tmp_path, loss, distiller):
    config = network('FCNHead', 'single', loss=loss, dropout_ratio=0.0)
    base_step(config, tmp_path / 'base.pth')
    old = snapshot(tmp_path / 'base.pth', 3)
    parts = dict(previous=old, teacher=old, distillers=[distiller], classifier_init='balanced')
    model = grown(config, [3, 2], 3, **parts).train()
    plain = next_step(config, tmp_path / 'base.pth', **parts).train()
    state = model.state_dict()
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    found, expected = (each.loss(*batch(5)) for each in (model, plain))
    names = [name for name in expected if name.startswith('distill')]
    assert names
    for name in names:
        torch.testing.assert_close(found[name], expected[name])
    name = next(name for name in expected if name.startswith('decode.loss'))
    assert found[name] > expected[name]


def test_a_copy_of_the_network_has_its_own_rows():
    model = first_step(network()).eval()
    duplicate = copy.deepcopy(model)
    with torch.no_grad():
        model.decode_head.conv_seg_future.bias.fill_(7.0)
    features = model.extract_feat(batch(3)[0])
    found, copied = (each.decode_head(features)[:, 3:] for each in (model, duplicate))
    assert (found > 6).all() and (copied < 6).all()


def test_what_does_not_fit_is_refused(tmp_path):
    config = network()
    weighted = copy.deepcopy(config)
    weighted['decode_head']['loss_decode'] = dict(
        type='CrossEntropyLoss', class_weight=[1.0, 2.0, 1.0]
    )
    with pytest.raises(InputError, match='future classes have none: leave class_weight out'):
        first_step(weighted)
    several = copy.deepcopy(config)
    several['decode_head'] = dict(
        type='DAHead',
        in_channels=64,
        in_index=3,
        channels=8,
        pam_channels=4,
        num_classes=19,
        loss_decode=dict(type='CrossEntropyLoss'),
    )
    with pytest.raises(InputError, match=r'DAHead takes its outputs for classes in more than'):
        first_step(several)
    rotating = dict(self_supervision=dict(type='RotationSelfSupervision'))
    with pytest.raises(InputError, match='leave one of them out'):
        first_step(config, **rotating)
    # Without classes to come there is nothing to refuse.
    first_step(weighted, num_future=0)
    first_step(config, num_future=0, **rotating)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'no file of rows', 'cannot be read'),
        (dict(other=torch.ones(2)), 'it holds no future rows'),
        ({'first': torch.tensor(3)}, 'are not those of decode_head'),
        ({'first': torch.tensor(float('nan'))}, 'not finite'),
    ],
)
def test_a_file_of_another_kind_is_told(tmp_path, content, message):
    config = network()
    base_step(config, tmp_path / 'checkpoint.pth')
    old = snapshot(tmp_path / 'checkpoint.pth', 3)
    if isinstance(content, bytes):
        (tmp_path / FILE).write_bytes(content)
    else:
        torch.save(content, tmp_path / FILE)
    with pytest.raises(InputError, match=message):
        grown(config, [3, 2], 1, previous=old, teacher=old)
