"""REMINDER with the choices of HieuPhan33/REMINDER where ours differ: those of PLOP's code.

configs/reminder/README.md tells what is official and what is ours.
"""

_base_ = './plop_paper.py'
method = dict(
    name='reminder_paper',
    by_protocol='reminder',  # the factors of both distillers
    distillers=[
        dict(type='LocalPODDistiller', regions='official'),
        dict(type='ClassSimilarityDistiller'),
    ],
    custom_hooks=[
        *_base_.method.get('custom_hooks', ()),
        dict(type='ReminderPrototypesHook'),
    ],
)
