"""Generated data, which say nothing about anybody's networks."""
