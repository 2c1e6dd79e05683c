"""PLOP's factors on Cityscapes by city, 11-1 (official script); that 11-5 has them too is ours."""

method = dict(distillers=[dict(type='LocalPODDistiller', factor=1e-4, logits_factor=1e-4)])
