"""PLOP's factors on Cityscapes by city, 1-1, where no class is new to LGKD."""

method = dict(
    distillers=[
        dict(type='LocalPODDistiller', factor=1e-4, logits_factor=1e-3),
        dict(type='LabelGuidedDistiller', old_weight=1.0, new_weight=1.0),
    ]
)
