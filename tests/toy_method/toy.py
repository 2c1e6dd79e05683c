custom_imports = dict(imports=['toy_method'])
method = dict(
    name='toy',
    loss_decode=[dict(type='CrossEntropyLoss'), dict(type='EntropyLoss')],
    distillers=[dict(type='FeatureL1Distiller', weight=2.0)],
    custom_hooks=[dict(type='NoteHook')],
)
