"""What a walk's record rests on: who may write it, and what its files and data are known by."""
