"""Herding against brute force, quotas, and orders that depend on nothing but the images."""

import numpy as np
import pytest
import torch

from mmseg_cil.memory.selection import (
    herding_order,
    keep_in_turns,
    keep_per_group,
    random_order,
    region_features,
    regions,
)


def brute_force_herding(features, count):
    """iCaRL's algorithm 4 word for word."""
    mean, chosen = features.mean(axis=0), []
    for k in range(1, min(count, len(features)) + 1):
        distances = {
            i: np.linalg.norm(mean - (features[i] + features[chosen].sum(axis=0)) / k)
            for i in range(len(features))
            if i not in chosen
        }
        chosen.append(min(distances, key=distances.get))
    return chosen


@pytest.mark.parametrize('size, dimension, count', [(1, 3, 5), (7, 2, 7), (40, 8, 15), (60, 3, 60)])
def test_herding_is_the_greedy_search(size, dimension, count):
    features = np.random.default_rng(size).normal(size=(size, dimension))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    order = herding_order(features, count)
    assert order == brute_force_herding(features, count)
    assert len(set(order)) == min(size, count)
    assert herding_order(features, count // 2) == order[: count // 2]


def test_herding_of_nothing_and_of_equals():
    assert herding_order(np.zeros((0,)), 3) == []
    assert herding_order(np.ones((4, 2)), 3) == [0, 1, 2]


def test_herding_is_nearer_the_mean_than_chance():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 6)) + 1
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    mean = features.mean(axis=0)
    herded = np.linalg.norm(features[herding_order(features, 30)].mean(axis=0) - mean)
    drawn = [
        np.linalg.norm(features[rng.permutation(200)[:30]].mean(axis=0) - mean) for _ in range(50)
    ]
    assert herded < min(drawn)


def test_a_random_order_depends_on_names_seed_and_group_alone():
    names = [f'image_{i}' for i in range(30)]
    order = [names[i] for i in random_order(names, 1, 'cat')]
    shuffled = list(np.random.default_rng(0).permutation(names))
    assert [shuffled[i] for i in random_order(shuffled, 1, 'cat')] == order
    few = names[5:15]
    assert [few[i] for i in random_order(few, 1, 'cat')] == [name for name in order if name in few]
    assert order not in (
        names,
        [names[i] for i in random_order(names, 2, 'cat')],
        [names[i] for i in random_order(names, 1, 'dog')],
    )


def test_random_orders_are_uniform():
    names = ['a', 'b', 'c', 'd']
    first = [random_order(names, seed, 'cat')[0] for seed in range(2000)]
    assert np.bincount(first, minlength=4) == pytest.approx([500] * 4, abs=80)


def test_a_quota_for_each_group():
    lists = {'cat': 'abcd', 'dog': 'b', 'cow': ''}
    shares = dict.fromkeys(lists, 1)
    assert keep_per_group(lists, 2, shares) == {'cat': ('a', 'b'), 'dog': ('b',), 'cow': ()}
    assert keep_per_group(lists, 1, {**shares, 'cat': 3})['cat'] == ('a', 'b', 'c')


def test_turns_are_the_quotas_of_icarl_on_disjoint_lists():
    lists = {str(group): [f'{group}.{i}' for i in range(50)] for group in range(7)}
    shares = dict.fromkeys(lists, 1)
    for budget in (1, 7, 20, 100):
        kept = keep_in_turns(lists, budget, shares)
        assert sum(map(len, kept.values())) == budget
        quotas = {len(names) for names in kept.values()}
        assert quotas <= {budget // 7, budget // 7 + 1}
    kept = keep_in_turns(lists, 40, {**shares, '3': 4})
    assert len(kept['3']) == 16 and {len(kept[group]) for group in kept if group != '3'} == {4}


def test_an_image_of_two_groups_costs_once_and_short_lists_leave_the_rest_to_others():
    lists = {'cat': ['a', 'b', 'c', 'd'], 'dog': ['a', 'x', 'y', 'z'], 'cow': ['m']}
    kept = keep_in_turns(lists, 5, dict.fromkeys(lists, 1))
    assert kept == {'cat': ('a', 'b', 'c'), 'dog': ('a', 'x'), 'cow': ('m',)}
    everything = keep_in_turns(lists, 100, dict.fromkeys(lists, 1))
    assert everything == {group: tuple(names) for group, names in lists.items()}


@pytest.mark.parametrize('seed', range(20))
def test_a_budget_is_never_passed_and_lists_only_shrink_as_groups_come(seed):
    rng = np.random.default_rng(seed)
    budget, kept = int(rng.integers(1, 30)), {}
    images = [f'i{i}' for i in range(60)]
    for group in range(8):
        lists = {**kept, str(group): list(rng.permutation(images)[: rng.integers(0, 20)])}
        before, kept = kept, keep_in_turns(lists, budget, dict.fromkeys(lists, 1))
        different = {name for names in kept.values() for name in names}
        assert len(different) <= budget
        for kept_group, names in kept.items():
            assert tuple(lists[kept_group][: len(names)]) == names
        assert all(len(kept[kept_group]) <= len(names) for kept_group, names in before.items())
        available = {name for names in lists.values() for name in names}
        # Only a list that is over, or an image beyond the budget, stops a group.
        if len(different) < budget:
            assert different == available


def test_features_of_regions_are_means_of_unit_vectors():
    torch.manual_seed(0)
    embedding = torch.randn(5, 4, 6)
    labels = torch.randint(0, 3, (4, 6))
    labels[0] = 255
    members = regions(labels, [0, 2, 9, None])
    assert members[3].equal(labels != 255) and not members[2].any()
    features = region_features(embedding, members)
    units = embedding / embedding.norm(dim=0)
    for row, mask in zip(features, members, strict=True):
        mean = units[:, mask].mean(dim=1) if mask.any() else torch.zeros(5)
        expected = mean / mean.norm() if mask.any() else mean
        torch.testing.assert_close(row, expected)


def test_a_region_smaller_than_a_cell_has_a_feature():
    embedding = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    members = torch.zeros(2, 20, 30, dtype=torch.bool)
    members[0, 3, 25] = True
    # Three pixels of one cell, one of another.
    members[1, 0, :3] = members[1, 19, 0] = True
    features = region_features(embedding, members)
    units = embedding / embedding.norm(dim=0)
    torch.testing.assert_close(features[0], units[:, 0, 2])
    mean = 3 * units[:, 0, 0] + units[:, 1, 0]
    torch.testing.assert_close(features[1], mean / mean.norm())
