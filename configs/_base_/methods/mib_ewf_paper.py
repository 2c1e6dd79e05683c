"""MiB and EWF with the choices of schuy1er/EWF_official where ours differ.

configs/mib_ewf/README.md tells what is official and what is ours.
"""

_base_ = './mib.py'
method = dict(
    name='mib_ewf_paper',
    freezing=dict(old_rows=True),
    custom_hooks=[
        *_base_.method.get('custom_hooks', ()),
        dict(type='EWFHook', start='official'),
    ],
)
