"""PLOP and NeST with the choices of zhengyuan-xie/ECCV24_NeST where ours differ.

configs/mib_nest/README.md tells what is official and what is ours.
"""

_base_ = './plop_paper.py'
method = dict(
    name='plop_nest_paper',
    by_protocol='plop_nest',  # factors, freezing, length and learning rate of the pre-tuning
    distillers=[dict(type='LocalPODDistiller', regions='official')],
    sub_steps=[
        dict(
            type='PreTuneClassifier',
            norm_statistics='moving',
            bias='drawn',
            bias_scale='sum',
            max_images=None,
        ),
    ],
)
