"""LGKD with the choices of Ze-Yang/LGKD where ours differ: those of PLOP's code.

configs/lgkd/README.md tells what is official and what is ours.
"""

_base_ = './plop_paper.py'
method = dict(
    name='lgkd_paper',
    by_protocol='lgkd',  # the weights of both distillers
    distillers=[
        dict(type='LocalPODDistiller', regions='official'),
        dict(type='LabelGuidedDistiller'),
    ],
)
