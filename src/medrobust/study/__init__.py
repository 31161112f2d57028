"""A study: its file, its plan, and the run of it."""
