"""What one process finds or does for all, so that none waits for one that has given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.dist import broadcast_object_list, get_rank

from mmseg_cil.errors import InputError

Result = TypeVar('Result')


def decided_by_main(decide: Callable[[], Result]) -> Result:
    """What the main process finds, on all processes.

    Only the main process calls ``decide``, so that processes never disagree
    about what is on the disk; its failure is everyone's, so that none waits for
    a process that has given up.

    Args:
        decide: Its result can be pickled.

    Raises:
        InputError: ``decide`` has raised it.
        RuntimeError: On the other processes, where ``decide`` raised anything else.
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
