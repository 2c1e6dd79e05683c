"""iCaRL with the one loss of its paper: Rebuffi et al., CVPR 2017, algorithm 3.

As `icarl.py`, which describes the memory, but outputs of old classes, the background
included, learn from the teacher's sigmoids alone and those of new classes from the labels
alone, all weighing the same (fcdl94/MiB, utils/loss.py, IcarlLoss). So labels that call
an old class background teach nothing wrong. In the official code ignored pixels are
negatives of the new classes; here they are not (`loss_decode.ignored_are_negatives=True`:
officially).

By domain, where no class is new, labels and teacher both teach all classes (our choice).
No published figure on segmentation is known to us for this form.
"""

_base_ = './icarl.py'
method = dict(
    name='icarl_original',
    loss_decode=dict(_delete_=True, type='ICaRLLoss', loss_weight=1.0),
    distillers=[],
)
