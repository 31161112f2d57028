"""`medrobust audit`: read the data of a study as a run would, change nothing, and say what is wrong.

`audit.audit_data` lists the data and makes the split; `photos` or `scans` look at every file once (`looking`)
and check the small records that remain; `output` shows the findings.
"""
