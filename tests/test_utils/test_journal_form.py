"""A journal is of its form in all that is read of it, and names no files elsewhere."""

import copy

import pytest

from mmseg_cil.utils.journal_form import form_problem

RECORD = {
    'step': 0,
    'status': 'done',
    'checkpoint_sha256': 'ab',
    'kept_sha256': {'vdfd.pth': 'c'},
    'sub_steps': {'prune': {'files': {'snapshots.pth': 'd'}, 'identity': {'step': 0}}},
    'taken_from': {'work_dir': '/a', 'checkpoint_sha256': 'ab'},
    'exemplars': {'kept': 3},
}
JOURNAL = {
    'format': 1,
    'protocol': {
        'name': 'p',
        'classes': ['a'],
        'steps': [{'step': 0, 'old': [], 'new': ['a'], 'domains': []}],
        'policy': {'old': 1},
    },
    'method': {'name': 'mib', 'distillers': []},
    'fingerprints': {'model': 'x'},
    'seed': 3,
    'world_size': 2,
    'images': {'train': [3], 'test': [4]},
    'data': {'train': ['a'], 'test': []},
    'iterations': [6],
    'command': ['x'],
    'versions': {'torch': '2'},
    'start_from': None,
    'accepted_changes': [{'changed': ['seed'], 'trained_before': [0]}],
    'steps': [RECORD],
    'of_another_version': object(),
}


def test_what_a_walk_writes_is_of_the_form():
    assert form_problem(JOURNAL) is None
    assert form_problem({}) is None


@pytest.mark.parametrize(
    ('place', 'value'),
    [
        (('protocol',), []),
        (('protocol', 'steps'), {}),
        (('protocol', 'steps', 0), 'x'),
        (('protocol', 'steps', 0, 'new'), [3]),
        (('protocol', 'classes'), 'abc'),
        (('method',), 'mib'),
        (('fingerprints',), ['x']),
        (('fingerprints', 'model'), 3),
        (('seed',), '3'),
        (('seed',), True),
        (('world_size',), 1.5),
        (('images',), [3]),
        (('images', 'train'), ['3']),
        (('data',), {'train': 'abc'}),
        (('iterations',), 6),
        (('start_from',), ['x']),
        (('start_from',), {}),
        (('versions',), 'x'),
        (('accepted_changes',), ['x']),
        (('accepted_changes', 0), {'trained_before': [0]}),
        (('steps',), {'0': {}}),
        (('steps', 0), None),
        (('steps', 0, 'step'), -1),
        (('steps', 0, 'step'), True),
        (('steps', 0, 'step'), '0'),
        (('steps', 0, 'step'), 10**9),
        (('steps', 0, 'status'), ['done']),
        (('steps', 0, 'checkpoint_sha256'), 3),
        (('steps', 0, 'kept_sha256'), {'../../secret': 'x'}),
        (('steps', 0, 'kept_sha256'), ['x']),
        (('steps', 0, 'sub_steps'), {'../x': {}}),
        (('steps', 0, 'sub_steps', 'prune'), 'x'),
        (('steps', 0, 'sub_steps', 'prune', 'files'), {'/etc/passwd': 'x'}),
        (('steps', 0, 'sub_steps', 'prune', 'files'), ['x']),
        (('steps', 0, 'exemplars'), 'x'),
    ],
)
def test_anything_else_is_named(place, value):
    journal = {
        key: copy.deepcopy(value) for key, value in JOURNAL.items() if key != 'of_another_version'
    }
    *way, last = place
    node = journal
    for key in way:
        node = node[key]
    node[last] = value
    told = 'the step record' if place[0] == 'steps' and len(place) > 1 else repr(place[0])
    assert form_problem(journal).startswith(told)
