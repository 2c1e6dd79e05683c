"""A grid of walks: methods x protocols x seeds x settings, trained, resumed and put in one table.

``plan`` lists the cells, ``composition`` makes the config of each, ``step_zero`` finds cells that
share the base step, ``executors`` and ``schedule`` run cells in processes of their own, ``cell`` is
such a process, ``rows`` collects the scores, and ``command`` is the command.
"""
