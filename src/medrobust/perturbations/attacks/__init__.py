"""The attacks: one file per family, each read from top to bottom like its paper."""
