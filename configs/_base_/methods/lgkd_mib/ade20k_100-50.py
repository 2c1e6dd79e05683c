"""LGKD's weights on ADE20K 100-50: those of the official script, which is on PLOP."""

method = dict(distillers=[dict(type='LabelGuidedDistiller', old_weight=1.0, new_weight=20.0)])
