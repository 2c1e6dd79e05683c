"""NeST's pre-tuning and frozen old rows with PLOP on VOC (scripts); elsewhere our choice."""

_base_ = '../plop/default.py'
method = dict(
    sub_steps=[dict(type='PreTuneClassifier', epochs=5, lr_factor=1.0)],
    freezing=dict(old_rows=True),
)
