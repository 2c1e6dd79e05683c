"""A grid of walks: methods x protocols x seeds x settings, trained, resumed and put in one table.

``plan`` says which cells there are, ``composition`` what each trains, ``step_zero`` which of them
share the base step, ``executors`` and ``schedule`` run them in processes of their own, ``cell`` is
such a process, ``rows`` collects what they scored, and ``command`` is the command.
"""
