"""LGKD's weights on VOC 19-1: those of the official script, which is on PLOP."""

method = dict(distillers=[dict(type='LabelGuidedDistiller', old_weight=5.0, new_weight=0.5)])
