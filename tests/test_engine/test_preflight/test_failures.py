"""Messages of errors in the rehearsal."""

import pytest
import torch

from mmseg_cil.engine.preflight.failures import (
    RehearsalError,
    describe,
    hint,
    is_out_of_memory,
    phase,
)
from mmseg_cil.engine.preflight.trial import is_enlarged
from mmseg_cil.errors import InputError


def test_the_innermost_phase_is_told():
    with (
        pytest.raises(RehearsalError) as caught,
        phase('step 1', 'all of it'),
        phase('step 1', 'the forward pass'),
    ):
        raise KeyError('a key')
    text = str(caught.value)
    assert text.startswith(
        'step 1 would fail: in the rehearsal before training, the forward pass '
        'ended with KeyError: a key ('
    )
    assert text.endswith(
        '--no-rehearsal (or rehearsal=False in the config) trains without this trial'
    )
    assert not caught.value.of_size


def test_wrong_input_is_told_as_it_is():
    text = describe('step 0', 'the metric', InputError('no class'))
    assert 'the metric ended with no class.' in text and 'InputError' not in text


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        torch.OutOfMemoryError('CUDA out of memory.'),
        RuntimeError(
            '[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate'
        ),
    ],
)
def test_lack_of_memory_is_told_with_what_takes_less(error):
    assert is_out_of_memory(error)
    text = describe('step 0', 'the backward pass', error)
    assert text.startswith('step 0 needs more memory than there is')
    assert 'global_batch_size' in text and '--amp' in text
    with pytest.raises(RehearsalError) as caught, phase('step 0', 'x'):
        raise error
    assert is_out_of_memory(caught.value) and not is_out_of_memory(ValueError())


@pytest.mark.parametrize(
    ('text', 'name', 'advice'),
    [
        (
            'RuntimeError: weight tensor should be defined either for all or no classes',
            'the forward pass',
            'class_weight',
        ),
        ('IndexError: Target 4 is out of bounds.', 'the forward pass', 'ignore_index'),
        (
            'RuntimeError: Sizes of tensors must match except in dimension 1',
            'predicting a test batch',
            'size_divisor',
        ),
        (
            "AttributeError: 'ConfigDict' object has no attribute 'stride'",
            'predicting a test batch',
            'crop_size=(H, W)',
        ),
        ("AttributeError: 'ConfigDict' object has no attribute 'stride'", 'building it', ''),
        (
            'RuntimeError: element 0 of tensors does not require grad',
            'the backward pass',
            'frozen_stages',
        ),
        ("KeyError: 'inputs'", 'predicting a test batch', 'PackSegInputs'),
        ("KeyError: 'inputs_of_mine'", 'predicting a test batch', ''),
        ('ZeroDivisionError: division by zero', 'the metric', ''),
    ],
)
def test_hints_fit_the_error_and_its_phase(text, name, advice):
    assert advice in hint(text, name) and bool(advice) == bool(hint(text, name))


def test_one_image_a_process_is_tried_as_two_on_gpus(monkeypatch):
    assert not is_enlarged(1, 2)
    monkeypatch.setattr('mmseg_cil.engine.preflight.trial.get_device', lambda: 'cuda')
    assert is_enlarged(1, 2) and not is_enlarged(1, 1) and not is_enlarged(2, 2)
