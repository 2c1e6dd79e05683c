"""Broken inputs of every kind, and what a tool must answer to each (see ``benchmarks/fuzz.py``)."""

from __future__ import annotations

from fuzzing.world import Case, World, mutations

# Importing a module registers its mutations.
from fuzzing import commands, configs, files, images, lists, masks  # noqa: F401  isort: skip

__all__ = ['Case', 'World', 'mutations']
