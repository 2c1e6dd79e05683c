"""One file for all snapshots: every one comes back bit by bit, and costs what it should."""

import pytest
import torch
from test_owners import network

from mmseg_cil.errors import InputError
from mmseg_cil.methods.m2kd.packed_snapshots import PackedSnapshots, same_bits
from mmseg_cil.methods.m2kd.weight_owners import apply_owners, claim_weights, restore_owned


def copied(state):
    return {name: value.clone() for name, value in state.items()}


def walk(ratio, steps=(0, 2, 3), earlier='trained'):
    """Snapshots of a network that goes on learning and whose classifier grows."""
    packed, states, former, owners = PackedSnapshots(), {}, None, {}
    for place, step in enumerate(steps, start=1):
        state = copied(network(step).state_dict())
        head = 'decode_head.conv_seg'
        state[f'{head}.weight'] = torch.randn(4 + step, 5, 1, 1)
        state[f'{head}.bias'] = torch.randn(4 + step)
        owners = claim_weights(state, owners, ratio, place)
        if former is not None and earlier == 'frozen':
            restore_owned(state, owners, former, place - 1)
        if former is not None and earlier == 'some':
            for name in owners:
                value = torch.where(owners[name] < place, former[name], state[name])
                value.view(-1)[::5] += 1.0
                state[name] = value
        apply_owners(state, owners, place)
        packed = packed.extended(step, state, owners)
        states[step], former = copied(state), state
    return packed, states, owners


@pytest.mark.parametrize('earlier', ['trained', 'frozen', 'some'])
@pytest.mark.parametrize('ratio', [0.0, 0.5, 0.75])
def test_every_snapshot_is_rebuilt_bit_by_bit_from_the_last_file(ratio, earlier, tmp_path):
    packed, states, owners = walk(ratio, earlier=earlier)
    packed.save(tmp_path / 'snapshots.pth', dict(ratio=ratio))
    read = PackedSnapshots.load(tmp_path / 'snapshots.pth')
    assert read.steps == (0, 2, 3)
    for step, state in states.items():
        rebuilt = read.rebuild(step)
        assert rebuilt.keys() == state.keys()
        assert all(same_bits(rebuilt[name], value) for name, value in state.items())
    assert all(torch.equal(read.owners[name], owner) for name, owner in owners.items())
    # A rebuilt state can be changed without changing the packed one.
    read.rebuild(0)['conv.weight'].zero_()
    assert same_bits(read.rebuild(0)['conv.weight'], states[0]['conv.weight'])


def test_without_pruning_a_snapshot_is_its_network():
    state = network().state_dict()
    state['conv.weight'].view(-1)[:3] = torch.tensor([-0.0, float('inf'), 1e-42])
    packed = PackedSnapshots().extended(0, state, claim_weights(state, {}, 0.0, 1))
    assert all(same_bits(packed.rebuild(0)[name], value) for name, value in state.items())


def test_frozen_weights_are_stored_once():
    weights = {
        name: value.numel()
        for name, value in network().state_dict().items()
        if name in ('conv.weight', 'linear.weight')
    }
    frozen, states, owners = walk(0.5, earlier='frozen')
    trained, _, _ = walk(0.5)
    rest = {
        step: sum(value.nbytes for name, value in state.items() if name not in weights)
        for step, state in states.items()
    }
    # Nothing else of a snapshot is as before, but the counter of batches.
    counter = 8
    claimed = {
        step: 4 * sum(int((owner == place).sum()) for owner in owners.values())
        for place, step in enumerate(states, start=1)
    }
    for place, step in enumerate(states):
        expected = claimed[step] + rest[step] - (counter if place else 0)
        assert frozen.bytes_of(step).stored == expected
        before = sum(value for other, value in claimed.items() if other < step)
        assert trained.bytes_of(step).stored == expected + before
    size = frozen.bytes_of(3)
    assert size.prunable == sum(weights.values())
    assert size.kept == sum(int((owner > 0).sum()) for owner in owners.values())
    assert size.dense == sum(value.nbytes for value in states[3].values())
    assert 3 * size.owners <= 2 * sum(-(-count // 8) for count in weights.values())


def test_a_file_is_about_as_large_as_its_parts(tmp_path):
    torch.manual_seed(0)
    state = {'conv.weight': torch.randn(200, 100, 3, 3)}
    sizes = {}
    for ratio in (0.0, 0.5, 0.75):
        masked = copied(state)
        owners = claim_weights(state, {}, ratio, 1)
        apply_owners(masked, owners, 1)
        packed = PackedSnapshots().extended(0, masked, owners)
        packed.save(tmp_path / f'{ratio}.pth', {})
        sizes[ratio] = (tmp_path / f'{ratio}.pth').stat().st_size
        size = packed.bytes_of(0)
        assert size.stored == round((1 - ratio) * 180000) * 4 and size.owners == 180000 // 8
        assert 0 <= sizes[ratio] - size.stored - size.owners < 4000
    assert sizes[0.0] > 1.9 * sizes[0.5] > 3 * sizes[0.75]


def test_what_could_not_be_rebuilt_is_refused():
    state = copied(network().state_dict())
    owners = claim_weights(state, {}, 0.5, 1)
    with pytest.raises(ValueError, match='not zero'):
        PackedSnapshots().extended(0, state, owners)
    apply_owners(state, owners, 1)
    packed = PackedSnapshots().extended(0, state, owners)
    taken = {name: owner.masked_fill(owner == 1, 2) for name, owner in owners.items()}
    with pytest.raises(ValueError, match='have changed'):
        packed.extended(1, state, taken)
    with pytest.raises(KeyError):
        packed.rebuild(1)


@pytest.mark.parametrize('kind', ['missing', 'text', 'truncated', 'format'])
def test_a_file_that_is_not_whole_is_refused(kind, tmp_path):
    path = tmp_path / 'snapshots.pth'
    walk(0.5)[0].save(path, {})
    if kind == 'missing':
        path.unlink()
    elif kind == 'text':
        path.write_text('nothing')
    elif kind == 'truncated':
        path.write_bytes(path.read_bytes()[:-500])
    else:
        torch.save(dict(torch.load(path), format=9), path)
    with pytest.raises(InputError, match='does not exist' if kind == 'missing' else 'cannot be'):
        PackedSnapshots.load(path)
