"""SegFormer with MiT-B2, random start: segformer_b0.py with the larger encoder.

Xie et al., arXiv 2105.15203, appendix. The decoder keeps MMSegmentation's 256 channels (the
paper: 768 from B2 on).
"""

_base_ = './segformer_b0.py'
model = dict(
    backbone=dict(embed_dims=64, num_layers=[3, 4, 6, 3]),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
)
