"""REMINDER's factors on VOC, PLOP's beside them (official scripts); elsewhere our choice."""

method = dict(
    distillers=[
        dict(type='LocalPODDistiller', factor=0.01, logits_factor=0.0005),
        dict(type='ClassSimilarityDistiller', loss_weight=0.5, delta=0.0),
    ]
)
