"""The record of a walk: its lock, its journal, and the fingerprints of its files and data."""
