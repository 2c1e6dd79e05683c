"""NeST's pre-tuning on ADE20K 100-5 (official script); that others have it too is ours."""

method = dict(sub_steps=[dict(type='PreTuneClassifier', epochs=15, lr_factor=500.0)])
