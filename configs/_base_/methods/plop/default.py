"""PLOP's factors on VOC, for features and logits (official scripts); elsewhere our choice."""

method = dict(distillers=[dict(type='LocalPODDistiller', factor=0.01, logits_factor=0.0005)])
