"""M2KD with snapshots by mask-based pruning: m2kd.py, whose teachers are pruned networks.

After a step a copy of its network loses half of what earlier snapshots left
free in each layer, the smallest weights, is retrained for a tenth of the step's
iterations, and joins the others in step_XX/prune/snapshots.pth, from which all
teachers of later steps are rebuilt. The step's own network is neither pruned nor
changed; it is what is evaluated and what the next step starts from.

The paper (arXiv 1904.01769) has no known ratio; 0.5, the retraining's length and its learning
rate (a tenth of the step's) are ours. ratio=None keeps no pruned snapshots.
"""

_base_ = './m2kd.py'
method = dict(
    name='m2kd_pruned',
    sub_steps=[
        dict(type='PruneSnapshot', ratio=0.5, retrain=0.1, lr_factor=0.1, earlier='trained')
    ],
)
