"""PLOP with the choices of its official code, arthurdouillard/CVPR2021_PLOP, where ours differ.

Of `plop.py`, which describes the method, with
* the median of the thresholds as the code computes it (train.py, find_median:
  the running sum adds the index of a bin), of the entropy as the code scales it
  (train.py, entropy: a mean over the classes), from random crops instead of whole images;
* factor 0 for an image without a pixel labelled background or old class;
* Local POD over squares of width // scale (train.py, _local_pod).

With it belongs protocol.preset='plop': void pixels are ignored, unseen classes
are background at test time. Not repeated are: histograms that every process
has for itself, so that thresholds differ by process. On ADE20K all thresholds are
above the greatest uncertainty and reject nothing, which follows from the above.
"""

_base_ = './plop.py'
method = dict(
    name='plop_paper',
    by_protocol='plop_paper',  # distillers
    loss_decode=dict(factor_without_background=0.0),
    custom_hooks=[
        dict(type='PseudoLabelThresholdsHook', base=0.001, median='official', crops='random')
    ],
)
