"""MiB and NeST with the choices of zhengyuan-xie/ECCV24_NeST where ours differ.

configs/mib_nest/README.md tells what is official and what is ours.
"""

_base_ = './mib.py'
method = dict(
    name='mib_nest_paper',
    by_protocol='mib_nest',  # length and learning rate of the pre-tuning
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
