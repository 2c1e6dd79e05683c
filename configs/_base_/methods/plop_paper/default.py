"""The factors of ../plop/default.py, over the regions of the official code."""

method = dict(
    distillers=[
        dict(type='LocalPODDistiller', factor=0.01, logits_factor=0.0005, regions='official')
    ]
)
