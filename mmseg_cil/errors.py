"""The error that wrong input raises."""

import pickle

#: What reading a file of weights raises where it is missing, unreachable or cut off.
UNREADABLE = (OSError, EOFError, pickle.UnpicklingError)


class InputError(ValueError):
    """Something the user gave is wrong: a config, an argument or a file.

    The message says what is wrong, where, and what to do about it. The tools
    print it without a traceback and exit with status 2.
    """
