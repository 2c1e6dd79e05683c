"""The command ``mmseg-cil``: one module per subcommand, which ``tools/*.py`` call too.

A module of a subcommand has ``make_parser(prog)``, which reads nothing but the command line, and
``run(args)``, which imports the modules that the work needs, so that help and lists come at once.
Exit statuses are those of :func:`mmseg_cil.utils.cli.run_tool`.
"""
