"""VDFD beside cross-entropy over the background and the step's own classes.

configs/vdfd/README.md tells what is official and what is ours.
"""

_base_ = './vdfd_plain.py'
method = dict(
    name='vdfd_step_ce',
    loss_decode=dict(type='StepClassesCrossEntropyLoss', loss_weight=1.0),
    regularisers=[dict(type='VDFDRegulariser', loss_weight=1.0)],
)
