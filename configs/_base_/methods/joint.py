"""Joint training on all classes at once: the upper bound.

Use it with a joint protocol (`voc_joint`, `ade20k_joint`, ...), which has one
step. Published on VOC (all, without background): 77.4 (MiB paper, table 1).
"""

method = dict(name='joint', classifier_init='random')
