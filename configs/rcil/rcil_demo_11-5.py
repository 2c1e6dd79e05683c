"""RCIL (Zhang et al., CVPR 2022), embedded dataset, 11-5 overlapped.

Reproduces no paper's figure. Published: nothing, the dataset is drawn by this
package. It lets the order of the methods be seen in minutes. Deviations: a thin
ResNet-18 from random weights, AdamW.

    python tools/train.py configs/rcil/rcil_demo_11-5.py
"""

_base_ = [
    '../_base_/models/fcn_r18-thin.py',
    '../_base_/datasets/embedded_shapes.py',
    '../_base_/protocols/embedded_11-5.py',
    '../_base_/methods/rcil.py',
    '../_base_/schedules/demo.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(checkpoint=dict(interval=100))
