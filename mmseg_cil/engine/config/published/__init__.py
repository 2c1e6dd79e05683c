"""The settings that the papers' figures were made with, and the deviations of a config."""

from mmseg_cil.engine.config.published.deviations import DEVIATIONS, Deviation, deviations_of
from mmseg_cil.engine.config.published.frames import FRAMES, Frame, find_frame
from mmseg_cil.engine.config.published.settings import as_published, notes_on_published

__all__ = [
    'DEVIATIONS',
    'FRAMES',
    'Deviation',
    'Frame',
    'as_published',
    'deviations_of',
    'find_frame',
    'notes_on_published',
]
