"""Joint training on all classes at once, the upper bound; for joint protocols.

configs/joint/README.md tells what is official and what is ours.
"""

method = dict(name='joint', classifier_init='random')
