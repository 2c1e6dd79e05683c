"""Joint training and a network that learns nothing more, beside the methods of a grid."""

import pytest
import torch

from mmseg_cil.errors import InputError
from mmseg_cil.grid.references import joint_protocol, joint_row, references_of
from mmseg_cil.grid.rows import rows_of_walk
from mmseg_cil.models.classifier import find_classifier_init
from mmseg_cil.models.growth import grow_state
from mmseg_cil.protocols import build_protocol


def test_the_joint_protocol_brings_all_at_once():
    walked = dict(name='voc_11-5', setting='disjoint')
    joint = build_protocol(joint_protocol(walked))
    assert len(joint.steps) == 1
    assert joint.steps[0].seen == build_protocol(walked).steps[-1].seen
    listed = joint_protocol(
        dict(name='mine', dataset='voc', steps=[['background', 'cat'], ['dog']])
    )
    assert listed['steps'] == [['background', 'cat', 'dog']]
    domains = [dict(name=name, pattern=f'{name}_*') for name in 'abc']
    assert joint_protocol(dict(name='d', domains=domains))['domain_steps'] == [['a', 'b', 'c']]
    cities = joint_protocol(dict(name='cityscapes_domain_11-5', split='clean'))
    assert len(build_protocol(cities).steps) == 1
    with pytest.raises(InputError, match='no joint protocol'):
        joint_protocol(dict(name='mine'))


def test_joint_training_is_scored_by_the_parts_of_the_last_step():
    iou = dict(background=0.9, a=0.5, b=0.3, c=None)
    entry = dict(step=0, IoU=iou, mIoU=dict(all=0.5, old=None, new=0.5, base=0.5, later=None))
    entry['settings'] = dict(background='background', background_in_means=True, old='previous')
    metrics = dict(kind='class', steps=[entry])
    steps = [dict(new=['background', 'a']), dict(new=['b']), dict(new=['c'])]
    (row,) = rows_of_walk(metrics, 'p', 'joint', '', 1)
    found = joint_row(row, metrics, steps)
    assert found.step == 2 and found.scores['all'] == 50.0 and found.scores['background'] == 90.0
    assert found.scores['old'] == pytest.approx(100 * (0.9 + 0.5 + 0.3) / 3)
    assert found.scores['new'] is None
    assert found.scores['base'] == pytest.approx(70.0)
    entry['settings'] |= dict(background_in_means=False, old='base')
    found = joint_row(row, metrics, steps)
    assert found.scores['old'] == pytest.approx(50.0) and found.scores['new'] == pytest.approx(30.0)
    found = joint_row(row, {**metrics, 'kind': 'domain'}, steps)
    assert found.scores['old'] is None and found.scores['all'] == 50.0


def test_rows_that_are_never_predicted_leave_the_others_alone():
    head = torch.nn.Conv2d(3, 5, 1)
    old = dict(weight=torch.randn(2, 3, 1, 1), bias=torch.randn(2))
    state = {f'head.conv_seg.{key}': value.clone() for key, value in old.items()}
    module = torch.nn.ModuleDict(dict(conv_seg=head))
    grow_state(state, {'head': module}, 2, find_classifier_init('unpredicted'))
    head.load_state_dict({key.rpartition('.')[2]: value for key, value in state.items()})
    features = 10 * torch.randn(4, 3, 6, 6)
    logits = head(features)
    assert torch.equal(logits.argmax(1), torch.conv2d(features, **old).argmax(1))
    assert (logits[:, 2:] < logits[:, :2].amin() - 1000).all()


def test_a_classifier_without_biases_is_refused():
    module = torch.nn.ModuleDict(dict(conv_seg=torch.nn.Conv2d(3, 5, 1, bias=False)))
    state = {'head.conv_seg.weight': torch.randn(2, 3, 1, 1)}
    with pytest.raises(InputError, match=r'head\.conv_seg has no bias'):
        grow_state(state, {'head': module}, 2, find_classifier_init('unpredicted'))


def test_references_are_asked_for_by_name():
    assert [reference.name for reference in references_of(True)] == ['joint', 'nothing_learnt']
    (found,) = references_of(dict(joint={'train_cfg.max_iters': 3}))
    assert found.reference and found.options == {'train_cfg.max_iters': 3}
    assert references_of(None) == references_of(False) == []
    for asked in ('joint', 3, ['best']):
        with pytest.raises(InputError, match=r'grid\.references'):
            references_of(asked)
