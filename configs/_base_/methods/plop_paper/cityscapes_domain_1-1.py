"""The factors of ../plop/cityscapes_domain_1-1.py, over the regions of the official code."""

method = dict(
    distillers=[dict(type='LocalPODDistiller', factor=1e-4, logits_factor=1e-3, regions='official')]
)
