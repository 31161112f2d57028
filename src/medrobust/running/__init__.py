"""Run a study: each step with the job that does it, from the data to the rows of results."""
