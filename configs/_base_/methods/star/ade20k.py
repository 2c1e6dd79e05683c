"""STAR's weight of positives on ADE20K (official config)."""

method = dict(loss_decode=dict(pos_weight=30.0))
