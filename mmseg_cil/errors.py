"""The error that wrong input raises."""

import pickle

#: Errors of reading a file of weights that is missing, unreachable or cut off.
UNREADABLE = (OSError, EOFError, pickle.UnpicklingError)


class InputError(ValueError):
    """An error in the user's input: a config, an argument or a file.

    The message says what is wrong, where, and what to do about it. The tools
    print the message without a traceback and exit with status 2.

    PyTorch raises an error of a loader's worker anew in the training process,
    with the traceback of the worker as its message. This class keeps only the
    original message of such an error.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_own_message(argument) for argument in args))


def _own_message(value: object) -> object:
    if not isinstance(value, str) or not value.startswith('Caught InputError in '):
        return value
    *_, message = value.rpartition(f'{InputError.__module__}.{InputError.__name__}: ')
    return message.rstrip()
