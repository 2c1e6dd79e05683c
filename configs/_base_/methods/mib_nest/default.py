"""NeST's pre-tuning on VOC (official scripts); elsewhere our choice."""

method = dict(sub_steps=[dict(type='PreTuneClassifier', epochs=5, lr_factor=1.0)])
