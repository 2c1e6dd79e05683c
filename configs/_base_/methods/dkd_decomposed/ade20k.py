"""Positives weigh 35 in decomposed KD on ADE20K (official config)."""

method = dict(
    loss_decode=[
        dict(type='ForegroundCrossEntropyLoss', pos_weight=35.0),
        dict(type='AuxiliaryOutputLoss'),
    ]
)
