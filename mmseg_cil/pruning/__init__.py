"""Keeping the networks of all steps in one file: functions on tensors that know no MMEngine."""
