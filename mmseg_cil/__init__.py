"""Incremental learning for MMSegmentation.

Importing this package is cheap: it pulls in neither torch nor MMSegmentation.
The parts register themselves when :mod:`mmseg_cil.registry` is imported and a
config is built under ``default_scope = 'mmseg_cil'``.
"""

__version__ = '0.1.0'

__all__ = ['__version__']
