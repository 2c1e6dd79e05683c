"""Walking a schedule: scheduler, journal, resume."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
