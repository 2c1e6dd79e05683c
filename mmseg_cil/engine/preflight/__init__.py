"""Checks before training, so that no error shows only after a step."""
