"""Fine-tuning: the network goes on learning on each step's data with plain cross-entropy.

No measure against forgetting: the lower bound that every method is held
against. Labels are those of the protocol's setting, so in the settings
overlapped and disjoint the background of a later step covers the old classes.
Published on VOC 15-5 overlapped (all, without background): 9.8 (MiB paper, table 1).
"""

method = dict(name='finetune', classifier_init='random')
