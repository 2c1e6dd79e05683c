"""The error that wrong input raises."""


class InputError(ValueError):
    """Something the user gave is wrong: a config, an argument or a file.

    The message says what is wrong, where, and what to do about it. The tools
    print it without a traceback and exit with status 2.
    """
