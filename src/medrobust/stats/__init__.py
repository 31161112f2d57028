"""Intervals, tests and ranks of plain vectors, with patients as the unit of sampling."""
