"""The balanced selection: the official numbers, and what it promises."""

import numpy as np
import pytest
import torch
from golden_cases import load

from mmseg_cil.engine.exemplars.balanced import confident_classes
from mmseg_cil.errors import InputError
from mmseg_cil.memory.memory import MemorySettings
from mmseg_cil.memory.selection import keep_in_rounds


def classes_of(target):
    """The foreground classes of SSUL's labels (0 unknown, 1 background, 2.. foreground)."""
    return {int(label) - 1 for label in target.unique() if 1 < label < 255}


def completed(targets, logits):
    """SSUL's pseudo-labels of a step's images."""
    score, label = logits.sigmoid().max(dim=1)
    seen = (targets <= 1) & (logits.argmax(dim=1) > 1) & (score >= 0.7)
    return torch.where(seen, label, targets)


def test_the_rounds_are_those_of_ssul():
    case = load('ssul_memory__3-1-2')
    memory = []
    for step in (1, 2):
        targets = case[f'targets__{step - 1}']
        if step > 1:
            targets = completed(targets, case[f'teacher_logits__{step - 1}'])
        shown = dict(memory)
        shown.update({(step - 1, k): classes_of(target) for k, target in enumerate(targets)})
        candidates = list(shown)
        draw = np.random.RandomState(int(case['np_seed'][step - 1]))
        draw.shuffle(places := list(range(len(candidates))))
        draw.shuffle(turns := list(range(1, int(case['n_fg_old'][step - 1]) + 1)))
        kept = keep_in_rounds(
            [(candidates[place], shown[candidates[place]]) for place in places],
            turns,
            case['mem_size'],
        )
        memory = [(name, shown[name]) for label in sorted(kept) for name in kept[label]]
        picked = zip(case[f'picked_from__{step}'], case[f'picked__{step}'], strict=True)
        assert [name for name, _ in memory] == [tuple(map(int, pair)) for pair in picked]
        for (_, found), expected in zip(memory, case[f'picked_labels__{step}'], strict=True):
            assert found == {int(label) for label in expected if 0 < label < 254}


def test_rounds_end_where_images_do():
    shown = [('a', {'cat'}), ('b', {'cat', 'dog'}), ('c', set()), ('d', {'cow'})]
    # Nobody's image and one of no group stay; the official code would look for them for ever.
    assert keep_in_rounds(shown, ['dog', 'cat'], budget=10) == dict(dog=('b',), cat=('a',))
    assert keep_in_rounds([], ['dog'], budget=2) == dict(dog=())


@pytest.mark.parametrize('seed', range(5))
def test_an_image_is_kept_once_and_classes_are_even(seed):
    draw = np.random.RandomState(seed)
    groups = list('abcd')
    shown = [(k, set(draw.choice(groups, draw.randint(1, 4)))) for k in range(60)]
    kept = keep_in_rounds(shown, groups, budget=14)
    names = [name for group in kept.values() for name in group]
    assert len(names) == len(set(names)) == 14
    assert sorted(len(group) for group in kept.values()) == [3, 3, 4, 4]
    assert all(group in dict(shown)[name] for group in groups for name in kept[group])


def test_a_network_sees_old_classes_where_it_is_sure_and_nothing_is_labelled():
    logits = torch.zeros(4, 1, 5)
    logits[1, 0, 0] = 3.0  # sure of class 1
    logits[2, 0, 1] = 1.0  # a probability of 0.73 against the background
    logits[3, 0, 2] = 9.0  # labelled
    logits[3, 0, 3] = -9.0
    labels = torch.tensor([[0, 0, 3, 0, 255]])
    assert confident_classes(logits, labels, 0.9) == [1]
    assert confident_classes(logits, labels, 0.7) == [1, 2]
    # A constant that all classes share says nothing.
    assert confident_classes(logits + 5.0, labels, 0.7) == [1, 2]
    assert confident_classes(logits, labels, 0.7, has_background=False) == [1]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(per='class'), "set per='total', or take selection='class_balanced'"),
        (dict(confidence=1.5), 'confidence must be a number'),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        MemorySettings(budget=3, selection='balanced', **settings)


def test_the_choice_tells_the_confidence_where_it_matters():
    assert MemorySettings(3, selection='balanced', confidence=0.9).choice(7) == dict(
        budget=3, per='total', selection='balanced', seed=7, confidence=0.9
    )
    assert 'confidence' not in MemorySettings(3).choice(7)
