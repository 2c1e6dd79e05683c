"""The mathematics of VDFD: functions on tensors that know nothing of segmentation or MMEngine."""
