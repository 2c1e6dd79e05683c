"""balanced_voc.py in mixed precision, channels last and with a fused optimizer, light setting.

A step takes half the time. Grids inherit from this file.
"""

_base_ = './balanced_voc.py'
channels_last = True
optim_wrapper = dict(type='BFloat16OptimWrapper', optimizer=dict(fused=True))
#: The hooks of VDFD's recipe that keep gradients and mean embeddings read fewer images.
fewer = {'method.custom_hooks.1.max_images': 128, 'method.custom_hooks.2.max_images': 256}
