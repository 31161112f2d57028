"""What does the pieces of a plan's jobs: this process, or a Ray cluster."""
