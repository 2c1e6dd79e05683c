"""Positives weigh 1 in decomposed KD: the official default, and our choice on other data."""

method = dict(
    loss_decode=[dict(type='ForegroundCrossEntropyLoss'), dict(type='AuxiliaryOutputLoss')]
)
