"""Who trains, validates and tests, and which cases are scored."""
