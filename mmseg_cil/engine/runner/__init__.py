"""One step through one MMEngine Runner, and what it needs around it."""
