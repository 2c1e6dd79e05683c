"""Decomposed KD with exemplars (DKD-M): the balanced selection of the official code.

configs/dkd_decomposed/README.md tells what is official and what is ours.
"""

_base_ = './dkd_decomposed.py'
method = dict(
    name='dkd_decomposed_m',
    by_protocol='dkd_decomposed_m',  # weights of positives and memory.budget
    memory=dict(selection='balanced', confidence=0.9),
)
