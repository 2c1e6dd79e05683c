"""iCaRL's budget of images on ADE20K: that of SSUL-M (clovaai/SSUL, --mem_size)."""

method = dict(memory=dict(budget=300))
