"""Compiled code for the backbone and neck of a network that does not learn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from mmseg_cil.errors import InputError
from mmseg_cil.models.compile_options import compile_options

_KEY = 'method.teacher_form.compile'


class CompiledTeacher:
    """Backbone and neck of a segmentor as ``torch.compile`` makes them, used within blocks.

    The code is made when it first runs. Heads are not compiled, because their classifiers are
    watched while they run.

    Args:
        network: A segmentor in evaluation mode.
        options: True, or the arguments of ``torch.compile``.

    Raises:
        InputError: The arguments cannot be used, see
            :func:`~mmseg_cil.models.compile_options.compile_options`, or ``torch.compile``
            refuses them.
    """

    def __init__(self, network: Any, options: bool | Mapping[str, Any]) -> None:
        self.options = compile_options(options, _KEY) or {}
        parts = [getattr(network, name, None) for name in ('backbone', 'neck')]
        self._parts = [part for part in parts if isinstance(part, nn.Module)]
        try:
            self._forwards = [torch.compile(part.forward, **self.options) for part in self._parts]
        except Exception as error:
            raise self._failure(error) from error

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Run the compiled code within the block.

        Raises:
            InputError: PyTorch cannot compile the network here.
        """
        from torch._dynamo.exc import TorchDynamoException

        for part, forward in zip(self._parts, self._forwards, strict=True):
            part.forward = forward
        try:
            yield
        except TorchDynamoException as error:
            raise self._failure(error) from error
        finally:
            for part in self._parts:
                part.__dict__.pop('forward', None)

    def _failure(self, error: Exception) -> InputError:
        why = ' '.join(str(error).split())[:300]
        return InputError(
            f'{_KEY}: torch.compile({self.options or ""}) fails on the backbone of a teacher '
            f'({type(error).__name__}: {why}). It needs a C++ compiler (or '
            'Triton on a GPU) and arguments that this PyTorch knows; leave compile out, or give '
            "dict(backend='eager'), which compiles nothing, to see whether the network is at fault"
        )
