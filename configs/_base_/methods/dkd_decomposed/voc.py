"""Positives weigh 2 at step 0 and 1 later in decomposed KD on VOC (official scripts)."""

method = dict(
    loss_decode=[
        dict(type='ForegroundCrossEntropyLoss', first_pos_weight=2.0),
        dict(type='AuxiliaryOutputLoss'),
    ]
)
