"""The factors of ../plop/ade20k.py, over the regions of the official code."""

method = dict(
    distillers=[dict(type='LocalPODDistiller', factor=1e-3, logits_factor=1e-5, regions='official')]
)
