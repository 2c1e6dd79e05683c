"""M2KD, embedded dataset, 11-5 overlapped, beside `make demo`.

Reproduces no paper's figure. Published: nothing, the dataset is drawn by this
package. Deviations: a thin ResNet-18 with an auxiliary head
from random weights, AdamW.

    python tools/train.py configs/m2kd/m2kd_demo_11-5.py
"""

_base_ = [
    '../_base_/models/fcn_r18-thin_aux.py',
    '../_base_/datasets/embedded_shapes.py',
    '../_base_/protocols/embedded_11-5.py',
    '../_base_/methods/m2kd.py',
    '../_base_/schedules/demo.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(checkpoint=dict(interval=100))
