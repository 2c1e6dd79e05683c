"""VDFD (Li et al., TPAMI 2023); what stands beside its penalty lies in vdfd/, by protocol.

configs/vdfd/README.md tells what is official and what is ours.
"""

method = dict(
    name='vdfd',
    by_protocol='vdfd',  # everything else
)
