"""The exemplar memory: which old images are kept, and how they are replayed."""
