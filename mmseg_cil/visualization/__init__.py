"""Reports of walks: tables, curves, matrices and predictions.

Importing this package pulls in neither torch nor matplotlib.
"""
