"""Imports, for the server of :mod:`mmseg_cil.testing.processes`, what every walk imports."""

import torch_geometric.nn  # noqa: F401

import mmseg_cil.engine.commands
import mmseg_cil.engine.walk_runner
import mmseg_cil.visualization.report  # noqa: F401
