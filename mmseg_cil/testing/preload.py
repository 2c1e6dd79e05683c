"""The imports of every walk, for the server of :mod:`mmseg_cil.testing.processes`.

Its programs do not wait until the disk has what they write: what the system has been given
outlives a killed process.
"""

import os

import fontTools.subset  # noqa: F401
import matplotlib.backends.backend_pdf
import matplotlib.backends.backend_svg
import matplotlib.figure  # noqa: F401
import torch_geometric.nn  # noqa: F401

import mmseg_cil.engine.commands
import mmseg_cil.engine.walk_runner
import mmseg_cil.visualization.comparison_figures
import mmseg_cil.visualization.report  # noqa: F401
from mmseg_cil.registry import DATASETS, HOOKS, METRICS, MODELS

os.fsync = lambda fd: None
for kinds in (DATASETS, HOOKS, METRICS, MODELS):
    kinds.import_from_location()
