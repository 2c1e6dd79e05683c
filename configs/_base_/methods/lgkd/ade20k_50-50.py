"""LGKD's weights on ADE20K 50-50 (official script), beside PLOP's factors."""

method = dict(
    distillers=[
        dict(type='LocalPODDistiller', factor=1e-3, logits_factor=1e-5),
        dict(type='LabelGuidedDistiller', old_weight=2.0, new_weight=10.0),
    ]
)
