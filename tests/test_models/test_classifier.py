import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmseg_cil.contracts import ClassifierInit
from mmseg_cil.errors import InputError
from mmseg_cil.models.classifier import (
    balanced_rows,
    conv_default_rows,
    copied_background_rows,
    find_classifier_init,
    imprinted_rows,
    random_rows,
)
from mmseg_cil.registry import CLASSIFIER_INITS

GOLDEN = Path(__file__).parents[1] / 'golden'
#: Meanings of the golden files' field ``variant``.
VARIANTS = {0: 'balanced', 1: 'copied_background'}


def draw(num_old=4, num_new=3, dim=8, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal(num_old, dim), normal(num_old), normal(num_new, dim), normal(num_new)


@pytest.mark.parametrize(
    'path', sorted(GOLDEN.glob('balanced_init__*.npz')), ids=lambda path: path.stem
)
def test_initialisations_are_the_official_ones(path):
    case = np.load(path)
    num_new = int(case['classes_per_step'][-1])
    weight, bias = (torch.from_numpy(case[f'{part}_before']) for part in ('weight', 'bias'))
    # The file holds the rows of all classes, the last ones freshly initialised.
    grown = find_classifier_init(VARIANTS[int(case['variant'])])(
        weight[:-num_new], bias[:-num_new], weight[-num_new:], bias[-num_new:]
    )
    for actual, part in zip(grown, ('weight', 'bias'), strict=True):
        expected = case[f'{part}_after']
        assert actual.shape == expected.shape
        assert np.abs(actual.numpy() - expected).max() <= 1e-6 * np.abs(expected).max()


def test_the_golden_files_are_there():
    assert len(list(GOLDEN.glob('balanced_init__*.npz'))) == 3


@pytest.mark.parametrize('dim', [(8,), (8, 1, 1)])
@pytest.mark.parametrize('num_new', [0, 1, 3])
def test_balanced_rows_share_the_backgrounds_mass(dim, num_new):
    weight, bias, fresh, fresh_bias = draw(num_new=num_new)
    new_weight, new_bias = balanced_rows(
        weight.reshape(-1, *dim), bias, fresh.reshape(-1, *dim), fresh_bias
    )
    x = torch.randn(100, 8, dtype=torch.float64)
    before = (x @ weight.T + bias).softmax(dim=1)
    after = (x @ new_weight.reshape(-1, 8).T + new_bias).softmax(dim=1)
    mass = after[:, 0] + after[:, 4:].sum(dim=1)
    torch.testing.assert_close(mass, before[:, 0])
    torch.testing.assert_close(after[:, 1:4], before[:, 1:])
    torch.testing.assert_close(after[:, 0], before[:, 0] / (num_new + 1))


def test_arguments_are_left_alone():
    for grow in (balanced_rows, copied_background_rows, random_rows):
        arguments = draw()
        before = [argument.clone() for argument in arguments]
        weight, bias = grow(*arguments)
        weight += 1
        bias += 1
        assert all(
            torch.equal(argument, former)
            for argument, former in zip(arguments, before, strict=True)
        )


def test_random_rows_keep_the_old_and_take_the_fresh():
    weight, bias, fresh, fresh_bias = draw()
    new_weight, new_bias = random_rows(weight, bias, fresh, fresh_bias)
    assert torch.equal(new_weight, torch.cat([weight, fresh]))
    assert torch.equal(new_bias, torch.cat([bias, fresh_bias]))


def test_unknown_and_unfit_initialisations_are_refused():
    with pytest.raises(InputError, match=r"'zeros'.*balanced"):
        find_classifier_init('zeros')
    # The rows of NeST come from a file, which its sub-step names.
    with pytest.raises(InputError, match='is set by the sub-step'):
        find_classifier_init('pre_tuned')
    for name in set(CLASSIFIER_INITS.module_dict) - {'pre_tuned'}:
        find_classifier_init(name, has_background=True)
    for name in ('balanced', 'copied_background', 'lowered_background', 'attributed'):
        with pytest.raises(InputError, match='background'):
            find_classifier_init(name, has_background=False)
    for name in ('random', 'imprinted'):
        find_classifier_init(name, has_background=False)


def test_imprinted_rows_point_at_the_class_means_and_are_as_long_as_old_ones():
    weight, bias, fresh, fresh_bias = draw()
    weight, bias = random_rows(weight, bias, fresh, fresh_bias)
    sums, counts = draw(seed=1)[2], torch.tensor([5.0, 0.0, 2.0])
    new_weight, new_bias = imprinted_rows(weight, bias, sums, counts, num_old=4)
    length = weight[1:4].norm(dim=1).mean()
    for row in (0, 2):
        torch.testing.assert_close(new_weight[4 + row], length * sums[row] / sums[row].norm())
        torch.testing.assert_close(new_bias[4 + row], bias[1:4].mean())
    # Old rows, and that of a class without a pixel, stay.
    keep = [0, 1, 2, 3, 5]
    assert torch.equal(new_weight[keep], weight[keep])
    assert torch.equal(new_bias[keep], bias[keep])


@pytest.mark.parametrize(
    ('num_old', 'has_background', 'rows'),
    [(1, True, [0]), (3, True, [1, 2]), (3, False, [0, 1, 2])],
)
def test_which_old_rows_set_the_scale_of_imprinted_ones(num_old, has_background, rows):
    weight, bias = draw(num_old=4)[:2]
    num_new = 4 - num_old
    new_weight, new_bias = imprinted_rows(
        weight[:, :, None, None],
        bias,
        torch.eye(8, dtype=torch.float64)[:num_new],
        torch.ones(num_new),
        num_old,
        has_background,
    )
    assert new_weight.shape == (4, 8, 1, 1)
    torch.testing.assert_close(new_weight[-1].norm(), weight[rows].norm(dim=1).mean())
    torch.testing.assert_close(new_bias[-1], bias[rows].mean())


@pytest.mark.parametrize(('config', 'shift'), [({}, 2.0), (dict(shift=0.5), 0.5)])
def test_lowered_rows_leave_the_background_alone(config, shift):
    weight, bias, fresh, fresh_bias = draw(num_old=2, num_new=2)
    grow = find_classifier_init(dict(type='lowered_background', **config))
    new_weight, new_bias = grow(weight, bias, fresh, fresh_bias)
    assert torch.equal(new_weight, torch.cat([weight, weight[:1], weight[:1]]))
    assert torch.equal(new_bias[:2], bias)
    # Each new class has exp(-shift) of the background's probability, whatever the input.
    x = torch.randn(50, 8, dtype=torch.float64)
    scores = (x @ new_weight.T + new_bias).softmax(dim=1)
    expected = scores[:, :1].expand(-1, 2) * math.exp(-shift)
    torch.testing.assert_close(scores[:, 2:], expected)
    with pytest.raises(InputError, match='shift must be a number'):
        find_classifier_init(dict(type='lowered_background', shift=-1.0))


@pytest.mark.parametrize('dim', [(256, 1, 1), (4, 3, 3)])
def test_rows_begin_as_those_of_a_new_convolution(dim):
    torch.manual_seed(1)
    old, old_bias = torch.randn(3, *dim), torch.randn(3)
    fresh, fresh_bias = torch.full((500, *dim), 9.0), torch.full((500,), 9.0)
    weight, bias = find_classifier_init('conv_default')(old, old_bias, fresh, fresh_bias)
    assert torch.equal(weight[:3], old) and torch.equal(bias[:3], old_bias)
    plain = torch.nn.Conv2d(dim[0], 500, dim[1:])
    for rows, expected in ((weight[3:], plain.weight), (bias[3:], plain.bias)):
        assert rows.shape == expected.shape
        bound = 1 / (dim[0] * dim[1] * dim[2]) ** 0.5
        assert rows.abs().max() <= bound and rows.abs().max() > 0.98 * bound
        assert rows.std().item() == pytest.approx(expected.std().item(), rel=0.1)
        assert rows.std().item() == pytest.approx(bound / 3**0.5, rel=0.06)
    assert (fresh == 9).all(), 'what was given must stay'


def test_a_step_without_new_classes_begins_no_row():
    weight, bias, fresh, fresh_bias = draw(num_new=0)
    grown = conv_default_rows(weight, bias, fresh, fresh_bias)
    assert torch.equal(grown[0], weight) and torch.equal(grown[1], bias)


def test_an_initialisation_of_one_s_own_is_found_by_its_name():
    class Doubled(ClassifierInit):
        def __init__(self, factor=2.0):
            self.factor = factor

        def __call__(self, weight, bias, fresh_weight, fresh_bias):
            return random_rows(weight, bias, self.factor * fresh_weight, fresh_bias)

    CLASSIFIER_INITS.register_module(module=Doubled, force=True)
    rows = torch.ones(2, 3), torch.ones(2), torch.ones(1, 3), torch.zeros(1)
    weight, bias = find_classifier_init(dict(type='Doubled', factor=3.0))(*rows)
    assert weight[-1].tolist() == [3.0] * 3 and bias.tolist() == [1.0, 1.0, 0.0]

    class Wrong:
        """No initialisation."""

    CLASSIFIER_INITS.register_module(module=Wrong, force=True)
    with pytest.raises(InputError, match='is no ClassifierInit'):
        find_classifier_init('Wrong')
    for name in ('Doubled', 'Wrong'):
        del CLASSIFIER_INITS._module_dict[name]
