"""LGKD's weights on ADE20K 100-50 (official script), beside PLOP's factors."""

method = dict(
    distillers=[
        dict(type='LocalPODDistiller', factor=1e-3, logits_factor=1e-5),
        dict(type='LabelGuidedDistiller', old_weight=1.0, new_weight=20.0),
    ]
)
