"""PLOP's factors on Cityscapes by city, 1-1 (official script)."""

method = dict(distillers=[dict(type='LocalPODDistiller', factor=1e-4, logits_factor=1e-3)])
