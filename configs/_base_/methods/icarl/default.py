"""iCaRL's budget of images on VOC: that of SSUL-M (clovaai/SSUL, --mem_size). Ours elsewhere."""

method = dict(memory=dict(budget=100))
