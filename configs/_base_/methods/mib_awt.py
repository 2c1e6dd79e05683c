"""MiB, its new rows begun by attribution-aware weight transfer (Goswami et al., WACV 2023).

configs/mib_awt/README.md tells what is official and what is ours.
"""

_base_ = './mib.py'
method = dict(name='mib_awt', classifier_init=dict(_delete_=True, type='attributed'))
