"""NeST's pre-tuning with PLOP on ADE20K 100-5 (official script); that others have it is ours."""

_base_ = '../plop/ade20k.py'
method = dict(sub_steps=[dict(type='PreTuneClassifier', epochs=15, lr_factor=500.0)])
