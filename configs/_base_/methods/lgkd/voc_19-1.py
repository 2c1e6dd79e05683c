"""LGKD's weights on VOC 19-1 (official script), beside PLOP's factors."""

method = dict(
    distillers=[
        dict(type='LocalPODDistiller', factor=0.01, logits_factor=0.0005),
        dict(type='LabelGuidedDistiller', old_weight=5.0, new_weight=0.5),
    ]
)
