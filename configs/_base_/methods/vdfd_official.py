"""VDFD as the official class-incremental code computes it; see vdfd.py for the method.

What differs from vdfd.py: eps in the log-determinant only; only the last
earlier step counts, its quadratic form times the squared number of earlier
steps (an oversight of that code, from which its published logs come); a graph
network of full width with residual; every batch of the gradient pass weighs
the same; all images; the classifier left out; cross-entropy over the step's own
classes (there LA; the background among them is our choice). Weight 50 and learning rate and
weight decay of the graph network are those of its CIFAR-100 script (scripts/vdfd.sh).

It needs Adam, as officially. There is no damping (damping=0.0), and with SGD, which the
schedules in configs/_base_/schedules/ are, a penalty of this weight diverges; the log of a
step warns of it. Under SGD take the default, method.regularisers.0.damping=None.
"""

_base_ = './vdfd.py'
method = dict(
    name='vdfd_official',
    loss_decode=dict(type='StepClassesCrossEntropyLoss', loss_weight=1.0),
    regularisers=[
        dict(
            type='VDFDRegulariser',
            loss_weight=50.0,
            eps=1e-3,
            quadratic='official',
            accumulation='official_class_incremental',
            damping=0.0,
            covariance=dict(residual=True),
            optimizer=dict(type='Adam', lr=1e-4, weight_decay=5e-4),
        )
    ],
    custom_hooks=[
        dict(type='VDFDHook', rank=1, weighting='batches', max_images=None, classifier=False)
    ],
)
