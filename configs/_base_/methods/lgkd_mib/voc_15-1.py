"""LGKD's weights on VOC 15-1: those of the official script, which is on PLOP."""

method = dict(distillers=[dict(type='LabelGuidedDistiller', old_weight=1.0, new_weight=0.0)])
