"""What a walk looks like: tables, curves, matrices and predictions.

Importing this package pulls in neither torch nor matplotlib.
"""
