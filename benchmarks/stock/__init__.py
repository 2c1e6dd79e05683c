"""MMSegmentation's own configs, made small enough to be walked in seconds."""
