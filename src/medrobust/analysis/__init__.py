"""From the rows of a run to tables with intervals, comparisons and a verdict.

results = Results(task=..., crafted=..., predictions=...)     results.py     what is read
conclusion = verdict(results)                                 verdict.py     what may be said
frames = all_tables(results, conclusion)                      export.py      every table; table_files, as_json
"""
