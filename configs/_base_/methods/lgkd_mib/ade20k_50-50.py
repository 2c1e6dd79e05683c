"""LGKD's weights on ADE20K 50-50: those of the official script, which is on PLOP."""

method = dict(distillers=[dict(type='LabelGuidedDistiller', old_weight=2.0, new_weight=10.0)])
