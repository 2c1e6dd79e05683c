"""The outputs that VDFD remembers, and their nodes."""

import pytest
import torch

from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.outputs import cells_of, node_logits, nodes_of_step, output_sums

STEPS = (0, 0, 0, 1, 1, 2)


def test_a_step_remembers_the_classes_it_introduced():
    assert nodes_of_step(STEPS[:3], 0) == ((0,), (1,), (2,))
    assert nodes_of_step(STEPS[:5], 1, 0) == ((3,), (4,))
    assert nodes_of_step(STEPS, 2, 1) == ((5,),)


def test_classes_of_steps_that_did_not_train_are_caught_up():
    assert nodes_of_step((0, 1), 1, last_remembered=-1) == ((0,), (1,))
    assert nodes_of_step((0, 1, 2), 2, last_remembered=1) == ((2,),)


def test_without_new_classes_all_are_remembered():
    for step in range(3):
        assert nodes_of_step((0,) * 4, step, step - 1, has_background=False) == (
            (0,),
            (1,),
            (2,),
            (3,),
        )


def test_all_classes_seen_may_be_remembered():
    assert nodes_of_step(STEPS[:5], 1, 0, nodes='all') == ((0,), (1,), (2,), (3,), (4,))
    assert nodes_of_step(STEPS[:5], 1, 0, background='exclude', nodes='all') == (
        (1,),
        (2,),
        (3,),
        (4,),
    )
    merged = nodes_of_step(STEPS, 2, 1, background='merge', nodes='all')
    assert merged == ((0, 3, 4, 5), (1,), (2,), (3,), (4,), (5,))
    # Where a step is the first, or none is new, there is no difference.
    for steps, step in ((STEPS[:3], 0), ((0,) * 4, 2)):
        assert nodes_of_step(steps, step) == nodes_of_step(steps, step, nodes='all')
    with pytest.raises(InputError, match='nodes must be one of'):
        nodes_of_step(STEPS, 2, nodes='old')


def test_background_excluded_or_merged():
    assert nodes_of_step(STEPS[:3], 0, background='exclude') == ((1,), (2,))
    assert nodes_of_step(STEPS[:3], 0, background='merge') == ((0,), (1,), (2,))
    assert nodes_of_step(STEPS[:5], 1, 0, background='exclude') == ((3,), (4,))
    assert nodes_of_step(STEPS, 2, 1, background='merge') == ((0, 3, 4, 5), (5,))
    # A network without background has nothing to exclude or merge.
    assert nodes_of_step((0, 0), 0, has_background=False, background='exclude') == ((0,), (1,))
    with pytest.raises(InputError, match='background must be one of'):
        nodes_of_step(STEPS, 2, background='drop')


def test_a_merged_node_is_the_log_sum_exp_of_its_classes():
    logits = torch.randn(2, 6, 3, 4)
    ours = node_logits(logits, ((0, 3, 4), (5,)))
    torch.testing.assert_close(ours[:, 0].exp(), logits[:, [0, 3, 4]].exp().sum(dim=1))
    assert torch.equal(ours[:, 1], logits[:, 5])


def test_mean_outputs():
    logits = torch.randn(3, 4, 5, 6)
    sums, counts = output_sums(logits, ((1,), (3,)))
    torch.testing.assert_close(sums / counts, logits[:, [1, 3]].mean(dim=(0, 2, 3)))
    assert counts.tolist() == [3, 3]


def test_outputs_over_predicted_pixels():
    logits = torch.randn(3, 4, 5, 6)
    logits[:, 2] = -10.0
    sums, counts = output_sums(logits, ((1,), (2,), (0, 3)), 'predicted')
    predicted = logits.argmax(dim=1)
    torch.testing.assert_close(sums[0] / counts[0], logits[:, 1][predicted == 1].mean())
    assert counts[1] == 0 and sums[1] == 0
    assert counts.sum() == predicted.numel()
    merged = logits[:, [0, 3]].logsumexp(dim=1)[(predicted == 0) | (predicted == 3)].mean()
    torch.testing.assert_close(sums[2] / counts[2], merged)


def test_grid_outputs():
    logits = torch.randn(3, 4, 6, 8)
    sums, counts = output_sums(logits, ((1,), (3,)), 'grid', grid=2)
    assert cells_of('grid', 2) == 4 and cells_of('mean', 2) == 1
    ours = (sums / counts).reshape(2, 2, 2)
    torch.testing.assert_close(ours[1, 0, 1], logits[:, 3, :3, 4:].mean())
    mean, _ = output_sums(logits, ((1,), (3,)))
    single, _ = output_sums(logits, ((1,), (3,)), 'grid', grid=1)
    torch.testing.assert_close(single, mean)
    with pytest.raises(InputError, match='outputs must be one of'):
        output_sums(logits, ((1,),), 'median')


def test_outputs_given_the_predicted_class():
    logits = torch.randn(3, 4, 5, 6)
    logits[:, 2] = -10.0
    sums, counts = output_sums(logits, ((1,), (0, 3)), 'conditional')
    assert cells_of('conditional', num_classes=4) == 4
    sums, counts = sums.reshape(2, 4), counts.reshape(2, 4)
    predicted = logits.argmax(dim=1)
    merged = logits[:, [0, 3]].logsumexp(dim=1)
    for index, own in enumerate((logits[:, 1], merged)):
        for cell in (0, 1, 3):
            mean = own[predicted == cell].mean()
            torch.testing.assert_close(sums[index, cell] / counts[index, cell], mean)
        # Where a class is never predicted there is nothing.
        assert counts[index, 2] == sums[index, 2] == 0
    assert counts.sum(dim=1).tolist() == [predicted.numel()] * 2
    # Cell 1 of class 1 is its mean where it is predicted; all cells together are its plain mean.
    alone = output_sums(logits, ((1,),), 'predicted')
    torch.testing.assert_close((sums[0, 1], counts[0, 1]), (alone[0][0], alone[1][0]))
    torch.testing.assert_close(sums[0].sum() / counts[0].sum(), logits[:, 1].mean())


@pytest.mark.parametrize('outputs', ['mean', 'predicted', 'grid', 'conditional'])
def test_batches_do_not_matter(outputs):
    logits = torch.randn(7, 4, 6, 6, dtype=torch.float64)
    whole = output_sums(logits, ((0,), (2,)), outputs)
    parts = [output_sums(part, ((0,), (2,)), outputs) for part in logits.split(3)]
    for index in range(2):
        torch.testing.assert_close(sum(part[index] for part in parts), whole[index])
