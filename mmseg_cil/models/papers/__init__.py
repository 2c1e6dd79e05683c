"""Parts of the network of MiB, PLOP and RCIL that differ from MMSegmentation's own parts."""

from mmseg_cil.models.papers.leaky_resnet import LeakyResNet
from mmseg_cil.models.papers.paper_aspp_head import PaperASPPHead

__all__ = ['LeakyResNet', 'PaperASPPHead']
