"""One step of a walk in one MMEngine Runner, and the functions around this Runner."""
