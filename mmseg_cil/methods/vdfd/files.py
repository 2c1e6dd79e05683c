"""The file ``vdfd.pth`` with the compressed gradients of a step."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.compression import OutputGradients
from mmseg_cil.utils.atomic import atomic_write
from mmseg_cil.utils.finite import named, not_finite
from mmseg_cil.utils.weights_files import NotDataError, read_weights

FILE_NAME = 'vdfd.pth'
FORMAT = 1


def save_gradients(path: str | Path, gradients: OutputGradients, settings: dict[str, Any]) -> None:
    """Write the gradients atomically, with plain types and tensors only.

    Args:
        path: The file.
        gradients: Gradients of one step.
        settings: Settings with which the gradients were computed; kept for the reader.
    """
    content = {'format': FORMAT, 'settings': settings, **asdict(gradients)}
    atomic_write(path, lambda file: torch.save(content, file))


def load_gradients(path: str | Path) -> tuple[OutputGradients, dict[str, Any]]:
    """Read the gradients that :func:`save_gradients` wrote, onto the CPU.

    Returns:
        The gradients, and the settings with which they were computed.

    Raises:
        InputError: The file is missing, damaged or of another format.
    """
    if not Path(path).is_file():
        raise InputError(
            f'{path} does not exist: the gradients of that step were not kept. Run the step with a '
            'method that has a VDFDHook, or take it over with --start-from, which makes them'
        )
    try:
        content = read_weights(path)
        if content.pop('format') != FORMAT:
            raise ValueError('another format')
        settings: dict[str, Any] = content.pop('settings')
        content['nodes'] = tuple(tuple(node) for node in content['nodes'])
        content.update({key: tuple(content[key]) for key in ('names', 'rows', 'apart')})
        if bad := not_finite({**content, **(content.get('moved') or {})}):
            raise ValueError(f'{named(bad)} hold values that are not finite')
        return OutputGradients(**content), settings
    except NotDataError:
        raise
    except Exception as error:
        raise InputError(
            f'{path} cannot be read ({error}): the file is damaged or of another '
            'version; delete the folder of that step and run it again'
        ) from error
