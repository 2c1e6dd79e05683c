"""REMINDER (Phan et al., CVPR 2022): PLOP and class-similarity weighted distillation.

Factors lie in reminder/, by protocol. configs/reminder/README.md tells what is official and what is
ours.
"""

_base_ = './plop.py'
method = dict(
    name='reminder',
    by_protocol='reminder',  # distillers
    custom_hooks=[
        *_base_.method.get('custom_hooks', ()),
        dict(type='ReminderPrototypesHook'),
    ],
)
