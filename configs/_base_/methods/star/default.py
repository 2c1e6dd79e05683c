"""STAR's weight of positives on VOC (official config); that other data have it too is ours."""

method = dict(loss_decode=dict(pos_weight=4.0))
