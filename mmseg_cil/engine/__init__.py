"""Walking a schedule: scheduler, journal, resume."""
