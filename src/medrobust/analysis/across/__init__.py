"""Several runs on the same data: what they share, how their networks differ, and what may be said of it.

runs = comparable(runs)                     shared.py         refuses other data; leaves what all runs have
conclusion = conclude(runs)                 conclusion.py     pairs of networks across runs, in words
frames = comparison_tables(runs, ...)       tables.py         every table
"""
