"""Decomposed KD with the choices of cvlab-yonsei/DKD where ours differ: void is background."""

_base_ = './dkd_decomposed.py'
method = dict(
    name='dkd_decomposed_paper',
    loss_decode=[
        dict(type='ForegroundCrossEntropyLoss', void='background'),
        dict(type='AuxiliaryOutputLoss', void='background'),
    ],
)
