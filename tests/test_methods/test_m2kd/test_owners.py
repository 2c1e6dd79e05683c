"""Owners of weights: how many are kept, which, and that later steps leave them alone."""

import itertools
import math

import pytest
import torch
from torch import nn

from mmseg_cil.methods.m2kd.weight_owners import (
    apply_owners,
    bits_needed,
    claim_free,
    claim_weights,
    pack_owners,
    prunable_names,
    restore_owned,
    unpack_owners,
)


def network(seed=0):
    torch.manual_seed(seed)
    net = nn.ModuleDict(
        dict(
            conv=nn.Conv2d(3, 7, 3),
            bn=nn.BatchNorm2d(7),
            linear=nn.Linear(7, 5),
            decode_head=nn.ModuleDict(dict(conv_seg=nn.Conv2d(5, 4, 1))),
        )
    )
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.normal_()
    return net


def test_convolutions_and_linear_layers_can_be_pruned():
    assert prunable_names(network().state_dict()) == ('conv.weight', 'linear.weight')
    assert prunable_names({'conv_seg.weight': torch.zeros(2, 3, 1, 1)}) == ()


class Attention(nn.Module):
    """Attention with one matrix for queries, keys and values, and with one for each."""

    def __init__(self):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, 9, 4))
        self.relative_position_bias_table = nn.Parameter(torch.randn(9, 2))
        self.norm = nn.LayerNorm(4)
        self.attn = nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.cross = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
        self.conv_seg = nn.MultiheadAttention(4, 2)


def test_attention_can_be_pruned_and_what_stands_beside_it_not():
    state = Attention().state_dict()
    assert prunable_names(state) == (
        'attn.in_proj_weight',
        'attn.out_proj.weight',
        'cross.q_proj_weight',
        'cross.k_proj_weight',
        'cross.v_proj_weight',
        'cross.out_proj.weight',
    )
    apply_owners(state, claim_weights(state, {}, 0.5, 1), 1)
    assert int((state['attn.in_proj_weight'] == 0).sum()) == 24


def test_layers_that_the_first_snapshot_kept_whole_stay_whole():
    state = Attention().state_dict()
    former = claim_weights(state, {}, 0.5, 1)
    del former['attn.in_proj_weight']
    assert claim_weights(state, former, 0.5, 2).keys() == former.keys()


@pytest.mark.parametrize('ratio', [0.0, 0.25, 0.5, 0.75, 1.0])
def test_so_many_of_the_largest_are_kept_in_every_layer(ratio):
    state = network().state_dict()
    owners = claim_weights(state, {}, ratio, 1)
    for name, owner in owners.items():
        weight, kept = state[name].abs(), owner == 1
        assert int(kept.sum()) == round((1 - ratio) * weight.numel())
        if 0 < ratio < 1:
            assert weight[kept].min() >= weight[~kept].max()


def test_masks_are_nested_and_claims_disjoint():
    owners, masks = {}, []
    free = {name: state.numel() for name, state in network().state_dict().items()}
    for snapshot in range(1, 6):
        former, state = owners, network(snapshot).state_dict()
        owners = claim_weights(state, former, 0.6, snapshot)
        for name, owner in owners.items():
            claimed = owner == snapshot
            assert int(claimed.sum()) == round(0.4 * free[name])
            free[name] -= int(claimed.sum())
            if former:
                assert (former[name][claimed] == 0).all()
                assert torch.equal(former[name][~claimed], owner[~claimed])
        masks.append({name: owner > 0 for name, owner in owners.items()})
    for before, after in itertools.pairwise(masks):
        assert all((before[name] <= after[name]).all() for name in after)


def test_equal_weights_are_claimed_in_order():
    owners = claim_free(torch.ones(10), torch.zeros(10, dtype=torch.uint8), 0.5, 3)
    assert owners.tolist() == [3] * 5 + [0] * 5
    assert claim_free(torch.zeros(4), torch.zeros(4, dtype=torch.uint8), 0.5, 1).sum() == 2


def test_an_earlier_snapshot_is_what_it_was_when_its_weights_are_frozen():
    net = network()
    state = net.state_dict()
    owners = claim_weights(state, {}, 0.5, 1)
    apply_owners(state, owners, 1)
    first = {name: value.clone() for name, value in state.items()}
    for snapshot in (2, 3):
        for parameter in net.parameters():
            parameter.data.add_(torch.randn_like(parameter))
        owners = claim_weights(state, owners, 0.5, snapshot)
        restore_owned(state, owners, first, 1)
        apply_owners(state, owners, snapshot)
        assert not torch.equal(state['conv.weight'], first['conv.weight'])
        again = {name: value.clone() for name, value in state.items()}
        apply_owners(again, owners, 1)
        for name in owners:
            assert torch.equal(again[name], first[name])


def test_nothing_is_changed_by_a_mask_of_all():
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    apply_owners(net.state_dict(), claim_weights(before, {}, 0.0, 1), 1)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize('snapshots', [1, 2, 3, 4, 7, 8, 20])
def test_owners_take_the_least_number_of_bits(snapshots):
    bits = bits_needed(snapshots)
    assert bits == math.ceil(math.log2(snapshots + 1))
    owners = torch.randint(0, snapshots + 1, (3, 7, 5), dtype=torch.uint8)
    packed = pack_owners(owners, bits)
    assert packed.dtype == torch.uint8 and packed.numel() == bits * math.ceil(105 / 8)
    assert torch.equal(unpack_owners(packed, bits, (3, 7, 5)), owners)
    with pytest.raises(ValueError, match='bytes a bit'):
        unpack_owners(packed, bits, (3, 7, 9))
