from collections import Counter

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.methods.dkd.task_pool import (
    POOLS,
    groups_of_pool,
    pool_group,
    pool_size,
    random_group,
    task_bounds,
    task_segments,
)

EXPECTED = {
    'singletons': {(0,), (1,), (2,)},
    'cumulative': {(0,), (0, 1), (0, 1, 2)},
    'contiguous': {(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)},
    'all_subsets': {(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)},
}


@pytest.mark.parametrize('pool', POOLS)
def test_a_pool_holds_what_its_name_says(pool):
    groups = [pool_group(pool, 3, place) for place in range(pool_size(pool, 3))]
    assert set(groups) == EXPECTED[pool] and len(groups) == len(EXPECTED[pool])
    assert set(groups_of_pool(pool, [2, 2, 2])) == EXPECTED[pool]


@pytest.mark.parametrize('pool', POOLS)
def test_groups_of_one_class_are_skipped(pool):
    found = set(groups_of_pool(pool, [2, 1, 1]))
    assert found == EXPECTED[pool] - {(1,), (2,)}
    assert groups_of_pool(pool, [1]) == () == groups_of_pool(pool, [])
    assert random_group(pool, [1], 0) is None and random_group(pool, [], 0) is None


def test_a_pool_above_the_cap_is_a_fixed_choice_of_it():
    sizes = [11] + [1] * 9
    whole = set(groups_of_pool('all_subsets', sizes, most=2000))
    assert len(whole) == 2**10 - 1 - 9  # without the nine of a single class
    chosen = groups_of_pool('all_subsets', sizes, most=100, seed=3)
    assert len(set(chosen)) == 100 and set(chosen) < whole
    assert chosen == groups_of_pool('all_subsets', sizes, most=100, seed=3)
    assert chosen != groups_of_pool('all_subsets', sizes, most=100, seed=4)
    # One short of the pool, and a pool too large to be made.
    assert len(groups_of_pool('all_subsets', [2, 2, 2], most=6)) == 6
    assert len(groups_of_pool('all_subsets', [1] * 150, most=5)) == 5


@pytest.mark.parametrize('pool', POOLS)
def test_every_group_is_drawn_as_often_as_another(pool):
    sizes = [2, 1, 2]
    draws = Counter(random_group(pool, sizes, seed) for seed in range(4000))
    expected = groups_of_pool(pool, sizes)
    assert set(draws) == set(expected)
    mean = 4000 / len(expected)
    # Far from what chance does to a binomial count (five standard deviations).
    assert all(abs(count - mean) < 5 * mean**0.5 for count in draws.values())


def test_a_draw_depends_on_its_seed_alone():
    sizes = [1] * 100  # a pool of 2^100 groups
    assert random_group('all_subsets', sizes, 7) == random_group('all_subsets', sizes, 7)
    assert len({random_group('all_subsets', sizes, seed) for seed in range(20)}) == 20


def test_tasks_are_runs_of_outputs():
    assert task_bounds([0, 0, 1, 3, 3]) == (0, 2, 3, 5)
    assert task_bounds([0, 0, 0]) == (0, 3)
    assert task_segments([0, 0, 0, 1, 2, 2], True) == [[(0, 1), (1, 3)], [(3, 4)], [(4, 6)]]
    assert task_segments([0, 0, 0, 1], True, dropped=True) == [[(1, 3)], [(3, 4)]]
    assert task_segments([0, 1, 1], True) == [[(0, 1)], [(1, 3)]]
    assert task_segments([0, 1, 1], True, dropped=True) == [[(1, 3)]]
    assert task_segments([0, 0, 1], False, dropped=True) == [[(0, 2)], [(2, 3)]]
    with pytest.raises(ValueError, match='order'):
        task_bounds([0, 1, 0])


def test_an_unknown_pool_is_refused():
    with pytest.raises(InputError, match=r'pairs.*singletons'):
        pool_size('pairs', 3)
