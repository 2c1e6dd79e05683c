"""The network that MiB, PLOP and RCIL trained, where MMSegmentation's own parts differ."""

from mmseg_cil.models.papers.leaky_resnet import LeakyResNet
from mmseg_cil.models.papers.paper_aspp_head import PaperASPPHead

__all__ = ['LeakyResNet', 'PaperASPPHead']
