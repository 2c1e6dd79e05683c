"""PLOP's factors on VOC; that LGKD weighs all cells alike is our choice."""

method = dict(
    distillers=[
        dict(type='LocalPODDistiller', factor=0.01, logits_factor=0.0005),
        dict(type='LabelGuidedDistiller', old_weight=1.0, new_weight=1.0),
    ]
)
