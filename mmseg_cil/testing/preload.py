"""The imports of every walk, for the server of :mod:`mmseg_cil.testing.processes`."""

import torch_geometric.nn  # noqa: F401

import mmseg_cil.engine.commands
import mmseg_cil.engine.walk_runner
import mmseg_cil.visualization.report  # noqa: F401
