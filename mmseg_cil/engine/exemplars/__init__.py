"""The exemplars of a walk: choosing them, and handing their lists from step to step."""
