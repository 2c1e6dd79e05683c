"""REMINDER's factors on ADE20K, PLOP's beside them (official scripts)."""

method = dict(
    distillers=[
        dict(type='LocalPODDistiller', factor=1e-3, logits_factor=1e-5),
        dict(type='ClassSimilarityDistiller', loss_weight=0.5, delta=1.0),
    ]
)
