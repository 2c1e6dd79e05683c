"""The exemplar memory: the choice of the old images that are kept, and their replay."""
