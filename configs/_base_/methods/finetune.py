"""Fine-tuning: plain cross-entropy on each step's data, the lower bound.

configs/finetune/README.md tells what is official and what is ours.
"""

method = dict(name='finetune', classifier_init='random')
