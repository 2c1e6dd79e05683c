"""Work of rank 0 for all processes, so that no process waits for one that has failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.dist import broadcast_object_list, get_rank

from mmseg_cil.errors import InputError

Result = TypeVar('Result')


def decided_by_main(decide: Callable[[], Result]) -> Result:
    """Return, on all processes, the result of a function that rank 0 calls.

    Only rank 0 calls ``decide``, so that processes never disagree about the files
    on the disk. If ``decide`` fails, all processes raise an error, so that none waits
    for a process that has failed.

    Args:
        decide: The function, whose result can be pickled.

    Raises:
        InputError: ``decide`` has raised it.
        RuntimeError: ``decide`` has raised another error; rank 0 raises that error itself.
    """
    answer: list[Any] = [None, None, False]
    failure: Exception | None = None
    if get_rank() == 0:
        try:
            answer[0] = decide()
        except Exception as error:
            failure = error
            answer[1:] = [f'{type(error).__name__}: {error}', isinstance(error, InputError)]
    broadcast_object_list(answer)
    result, problem, is_input = answer
    if failure is not None:
        raise failure
    if problem is not None and is_input:
        raise InputError(problem.partition(': ')[2])
    if problem is not None:
        raise RuntimeError(f'the main process failed: {problem}')
    return result
