"""PLOP's factors on Cityscapes by city, where no class is new to REMINDER."""

method = dict(
    distillers=[
        dict(type='LocalPODDistiller', factor=1e-4, logits_factor=1e-4),
        dict(type='ClassSimilarityDistiller', loss_weight=0.5, delta=0.0),
    ]
)
