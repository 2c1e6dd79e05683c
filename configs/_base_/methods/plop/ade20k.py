"""PLOP's factors on ADE20K (official scripts)."""

method = dict(distillers=[dict(type='LocalPODDistiller', factor=1e-3, logits_factor=1e-5)])
