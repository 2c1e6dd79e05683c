"""A step in the form that MMSegmentation reads without this package."""
