"""iCaRL with the one loss of its paper (Rebuffi et al., CVPR 2017, algorithm 3).

configs/icarl/README.md tells what is official and what is ours.
"""

_base_ = './icarl.py'
method = dict(
    name='icarl_original',
    loss_decode=dict(_delete_=True, type='ICaRLLoss', loss_weight=1.0),
    distillers=[],
)
