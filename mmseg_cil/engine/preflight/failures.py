"""Failures of a rehearsal, reported as wrong input: the place, the error and some advice."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch

from mmseg_cil.engine.preflight.building import explain
from mmseg_cil.errors import InputError

#: The advice on how to train without the rehearsal.
OFF = '--no-rehearsal (or rehearsal=False in the config) trains without this trial'

_TOO_LITTLE_MEMORY = (
    'it takes less memory with a smaller batch (--cfg-options global_batch_size=N; '
    'optim_wrapper.accumulative_counts keeps the batch of an update), a smaller crop '
    '(crop_size of the pipeline and model.data_preprocessor.size), mixed precision (--amp), '
    'backbone.with_cp=True, or a smaller network; test images take less with '
    "model.test_cfg=dict(mode='slide', crop_size=..., stride=...)"
)

#: Patterns of an error's message, the phases they are meant for ('' for all), and the advice.
_HINTS: tuple[tuple[str, str, str], ...] = (
    (
        r'divisible by|downsample rate|[Ss]izes of tensors must match',
        '',
        'some networks (UNet and other encoder-decoders) take images only whose sides their total '
        'stride divides: crop training images to such a size, and let test images be padded, with '
        'model.data_preprocessor.test_cfg=dict(size_divisor=32)',
    ),
    (
        r"'(stride|crop_size)'",
        'test batch',
        "model.test_cfg of mode 'slide' needs crop_size=(H, W) and stride=(H, W); mode 'whole' "
        'needs neither',
    ),
    (
        r"'mode'|test mode are supported",
        'test batch',
        "model.test_cfg needs mode='whole', or mode='slide' with crop_size and stride",
    ),
    (
        r'ori_shape|img_shape|pad_shape',
        'test batch',
        "the meta_keys of PackSegInputs must keep 'ori_shape' and 'img_shape', which predictions "
        'are fitted to: leave meta_keys out',
    ),
    (r'to type float without overflow', 'optimizer step', 'lower the learning rate'),
    (
        r'expected input.* to have (\d+) channels, but got (\d+)',
        '',
        'the bands of the images and the in_channels of that layer differ: set '
        'model.backbone.in_channels (and mean and std of model.data_preprocessor, one number for '
        "each band) to the images' bands, or let the pipeline load as many",
    ),
    (
        r'The size of tensor a \(\d+\) must match the size of tensor b',
        '',
        'mean and std of model.data_preprocessor, labels and images must have shapes that fit each '
        'other',
    ),
    (
        r'size and size_divisor should be valid',
        '',
        'training images of different sizes must be padded to one: set '
        'model.data_preprocessor.size=(H, W) to the crop of the pipeline',
    ),
    (
        r'weights in .* do not fit the network|size mismatch for',
        '',
        'the network of this step was given the weights of the one before: a head that has '
        'further parts of as many channels as classes, besides conv_seg, cannot grow',
    ),
    (
        r'stack expects each tensor to be equal size|image size in a batch should be the same',
        '',
        'images of one batch must have one size: crop or pad them, or set batch_size=1 for the '
        'test',
    ),
    (
        r'weight tensor should be defined (either )?for all',
        '',
        'class_weight of the loss must have one number for each class that the network knows at '
        'this step, which grows from step to step: leave class_weight out',
    ),
    (
        r'is not in list',
        'forward pass',
        'the decode head gives another number of scores than the classes of this step: it must be '
        'its num_classes, which grows from step to step',
    ),
    (
        r'Target -?\d+ is out of bounds|index .* out of bounds|is_in_bounds|device-side assert',
        '',
        'labels lie outside of the classes of this step: look at the masks, ignore_index and the '
        'number of outputs of the head',
    ),
    (
        r'(forward|__call__)\(\) (takes|missing|got)',
        'forward pass',
        'a distiller is called with one mmseg_cil.contracts.Batch, where batch.student and '
        'batch.teacher are NetworkOutput records and batch.pixels the logits at the labels, and '
        'returns a dict of losses; a regulariser with the segmentor alone',
    ),
    (
        r'Expected more than 1 (value per channel|spatial element)',
        '',
        'a batch norm sees one value a channel: give every process two images or more',
    ),
    (
        r'does not require grad',
        'backward pass',
        'nothing that is trained takes part in the loss: look at frozen_stages and requires_grad '
        'of the model, and at loss weights',
    ),
    (
        r"KeyError: '?(inputs|data_samples)'?$",
        '',
        "the pipeline must end with dict(type='PackSegInputs'), which makes a sample of what was "
        'loaded',
    ),
    (
        r'gt_sem_seg',
        '',
        "the pipeline must have dict(type='LoadAnnotations') before dict(type='PackSegInputs')",
    ),
)


#: The errors that networks raise at images of a size that they cannot take.
_OF_SIZES = (RuntimeError, ValueError, AssertionError, IndexError)


class RehearsalError(InputError):
    """An error in the rehearsal.

    Args:
        message: The failure and its place.
        of_size: Whether the error may be due to images that were cut for the trial.
    """

    def __init__(self, message: str, of_size: bool = False) -> None:
        super().__init__(message)
        self.of_size = of_size


@contextlib.contextmanager
def phase(where: str, name: str) -> Iterator[None]:
    """Name the phase of the rehearsal in every error that a block raises.

    Args:
        where: The rehearsed part of the walk, such as 'step 2'.
        name: The phase, such as 'the forward pass'.

    Raises:
        RehearsalError: Something was raised within the block. The error of the innermost
            block comes through unchanged.
    """
    try:
        yield
    except RehearsalError:
        raise
    except Exception as error:
        raise RehearsalError(describe(where, name, error), isinstance(error, _OF_SIZES)) from error


def describe(where: str, name: str, error: Exception) -> str:
    """Return the message about an error in a phase of the rehearsal.

    Args:
        where: The rehearsed part of the walk, such as 'step 2'.
        name: The phase.
        error: The error that was raised.
    """
    if is_out_of_memory(error):
        first = str(error).split('\n', maxsplit=1)[0]
        return (
            f'{where} needs more memory than there is: in the rehearsal before training, '
            f'{name} ended with {type(error).__name__}: {first[:300]}; '
            f'{_TOO_LITTLE_MEMORY}. {OFF}'
        )
    text = str(error) if isinstance(error, InputError) else explain(error)
    advice = hint(f'{type(error).__name__}: {error}', name)
    return (
        f'{where} would fail: in the rehearsal before training, {name} ended with '
        f'{text[:2000]}{f"; {advice}" if advice else ""}. {OFF}'
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, says that memory has run out."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, (MemoryError, torch.OutOfMemoryError)) or re.search(
            r'not enough memory|out of memory', str(found)
        ):
            return True
        found = found.__cause__
    return False


def hint(text: str, name: str) -> str:
    """Return advice that is likely to help, or an empty text.

    Args:
        text: Type and message of an error.
        name: The phase that raised the error.
    """
    for pattern, phases, advice in _HINTS:
        if phases in name and re.search(pattern, text):
            return advice
    return ''
