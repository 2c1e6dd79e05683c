"""VDFD beside cross-entropy over the step's own classes: what is old is left alone by the labels.

For class-incremental walks whose labels hide old classes in the background. Plain
cross-entropy there pushes the logits of old classes down at every pixel, against the
regulariser; here its softmax is over the background and the new classes only. It is what the
official class-incremental code calls LA (XiaorongLi-95/VDFD, class_incremental), with the
background in every step's softmax, which is our choice.
"""

_base_ = './vdfd.py'
method = dict(
    name='vdfd_step_ce',
    loss_decode=dict(type='StepClassesCrossEntropyLoss', loss_weight=1.0),
    regularisers=[dict(type='VDFDRegulariser', loss_weight=1.0)],
)
