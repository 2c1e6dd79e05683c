"""STAR with 50 exemplars (STAR-M on VOC): the balanced selection of the official code.

configs/star/README.md tells what is official and what is ours.
"""

_base_ = './star.py'
method = dict(
    name='star_m',
    memory=dict(budget=50, selection='balanced', confidence=0.9),
)
