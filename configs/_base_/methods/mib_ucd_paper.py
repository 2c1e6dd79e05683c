"""MiB and UCD with the choices of ygjwd12345/UCD where ours differ; see mib_ucd_paper/.

configs/mib_ucd/README.md tells what is official and what is ours.
"""

_base_ = './mib.py'
method = dict(
    name='mib_ucd_paper',
    by_protocol='mib_ucd_paper',  # labels
    distillers=[
        *_base_.method.distillers,
        dict(
            type='PixelContrastDistiller',
            temperature=0.07,
            loss_weight=0.01,
            shift='official',
            across_processes=False,
        ),
    ],
)
