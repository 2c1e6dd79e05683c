"""VDFD where a walk begins with one domain: a tenth of the penalty's weight by domain. Ours.

Such a walk has most of its learning before it. The weight was chosen on held-out training images
of 21 places that come one by one; docs/results.md has the comparison.
"""

_base_ = './by_domain.py'
method = dict(regularisers=[dict(_base_.method.regularisers[0], loss_weight=0.01)])
