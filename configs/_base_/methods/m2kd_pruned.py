"""M2KD with snapshots by mask-based pruning (Zhou et al., 2019).

configs/m2kd/README.md tells what is official and what is ours.
"""

_base_ = './m2kd.py'
method = dict(
    name='m2kd_pruned',
    sub_steps=[
        dict(type='PruneSnapshot', ratio=0.5, retrain=0.1, lr_factor=0.1, earlier='trained')
    ],
)
