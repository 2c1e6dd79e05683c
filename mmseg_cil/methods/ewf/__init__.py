"""EWF: endpoints weight fusion (Xiao et al., CVPR 2023), on top of any method.

* ``hook``: after a step the weights are fused with those that the step began with (section 3.3,
  equations 5 and 6), before anything of the step is kept, scored or exported.
* ``reference``: the factor and the fusion, stated plainly.
"""

from mmseg_cil.methods.ewf.hook import EWFHook

__all__ = ['EWFHook']
