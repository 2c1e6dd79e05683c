import pytest
import torch

from mmseg_cil.errors import InputError
from mmseg_cil.methods.dkd.loss import DenseKnowledgeDistillationLoss
from mmseg_cil.methods.dkd.weights import WEIGHTINGS, count_and_similarity_weight, find_weighting
from mmseg_cil.utils.step_context import StepContext

STEP = StepContext.of_class_counts((3, 1))
AXES = torch.eye(4)


def rows(new):
    """Background and two old classes along the axes, and a new class."""
    return torch.cat([AXES[:3] * torch.tensor([[1.0], [2.0], [0.5]]), torch.tensor([new])])


@pytest.mark.parametrize(
    ('new', 'similarity'),
    [
        ([0.0, 0.0, 0.0, 1.0], 0.0),  # resembles none
        ([0.0, 3.0, 0.0, 0.0], 1.0),  # points along an old class
        ([0.0, 1.0, 0.0, 1.0], 0.5**0.5),
        ([0.0, -1.0, -1.0, 0.0], 0.0),  # the contrary is not less than none
        ([5.0, 0.0, 0.0, 0.0], 0.0),  # a copy of the background's row
    ],
)
def test_resemblance_raises_the_weight(new, similarity):
    weight = count_and_similarity_weight(rows(new), STEP)
    assert float(weight) == pytest.approx(0.75 * (1 + similarity))


def test_autocast_changes_nothing():
    torch.manual_seed(0)
    drawn = torch.randn(4, 64)
    expected = count_and_similarity_weight(drawn, STEP)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(count_and_similarity_weight(drawn, STEP), expected)


def test_the_weight_has_no_gradient():
    weight = count_and_similarity_weight(rows([0.0, 1.0, 0.0, 1.0]).requires_grad_(), STEP)
    assert not weight.requires_grad


def test_without_new_classes_it_is_one():
    step = StepContext(1, (0,) * 4, False, False, by_domain=True)
    assert [find_weighting(name)(None, step) for name in WEIGHTINGS] == [1.0] * 3


def test_where_the_background_is_the_only_old_class_it_counts():
    step = StepContext.of_class_counts((1, 1))
    assert float(count_and_similarity_weight(torch.ones(2, 4), step)) == pytest.approx(1.0)


def half(rows, step):
    """A weighting of a user."""
    return 0.5


def test_a_weighting_of_ones_own_is_named_by_its_path():
    logits = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    values = []
    for weighting in ('constant', f'{__name__}.half', half):
        loss = DenseKnowledgeDistillationLoss(weighting=weighting)
        loss.set_step(STEP)
        values.append(float(loss(logits, logits[:, :3].flip(1))))
    assert values[1] == values[2] == pytest.approx(0.5 * values[0])


@pytest.mark.parametrize('name', ['similar', 'math.no_such', 'no_such_package.f', 'math.pi', ''])
def test_an_unknown_weighting_is_refused(name):
    with pytest.raises(InputError, match='weighting'):
        find_weighting(name)


def test_similarity_without_a_classifier_is_refused():
    with pytest.raises(InputError, match='LogitDistiller'):
        count_and_similarity_weight(None, STEP)
