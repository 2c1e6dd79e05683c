"""DFT* (Zhang et al., arXiv 2508.04267): fine-tuning of new rows alone, future rows from step 0 on.

configs/dft_star/README.md tells what is official and what is ours.
"""

_base_ = './finetune.py'
method = dict(
    name='dft_star',
    network_change=dict(type='FutureRows'),
    freezing=dict(
        evaluation=['*'],
        parameters=['*'],
        excepted=['*.conv_seg*'],
        old_rows=True,
    ),
)
