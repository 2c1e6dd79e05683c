"""The command ``mmseg-cil``: one module a subcommand, which ``tools/*.py`` call too.

A module of a subcommand has ``make_parser(prog)``, which reads nothing but the command line, and
``run(args)``, which imports what the work needs; so help and lists come at once. Exit statuses are
those of :func:`mmseg_cil.utils.cli.run_tool`.
"""
