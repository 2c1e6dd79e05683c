"""Compiled code for the backbone and neck of a network that does not learn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from mmseg_cil.errors import InputError


class CompiledNetwork:
    """Backbone and neck of a segmentor as ``torch.compile`` makes them, used within blocks.

    The code is made when it first runs. Heads are not compiled, because their classifiers are
    watched while they run.

    Args:
        network: A segmentor in evaluation mode.
        options: True, or the arguments of ``torch.compile``.

    Raises:
        InputError: ``torch.compile`` refuses the arguments.
    """

    def __init__(self, network: Any, options: bool | Mapping[str, Any]) -> None:
        self.options = {} if isinstance(options, bool) else dict(options)
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
            f'method.teacher_form.compile: torch.compile({self.options or ""}) fails on the '
            f'backbone of a teacher ({type(error).__name__}: {why}). It needs a C++ compiler (or '
            'Triton on a GPU) and arguments that this PyTorch knows; leave compile out, or give '
            "dict(backend='eager'), which compiles nothing, to see whether the network is at fault"
        )
