"""AWT: attribution-aware weight transfer (Goswami et al., WACV 2023), on top of any method.

* ``attribution``: the attribution of the background's logit to each channel at the pixels of each
  new class, in closed form, summed over a step's images.
* ``rows``: the initialisation 'attributed', with its options.
* ``hook``: before a step's first iteration, a pass over the step's images with the last step's
  network chooses the channels whose background weights the new rows get.
* ``reference``: attribution, choice and transfer, stated plainly.
"""

from mmseg_cil.methods.awt.hook import AttributionTransferHook
from mmseg_cil.methods.awt.rows import AttributedRows

__all__ = ['AttributedRows', 'AttributionTransferHook']
