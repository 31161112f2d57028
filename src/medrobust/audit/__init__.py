"""`medrobust audit`: read the data of a study as a run would, change nothing, and say what is wrong.

`audit.audit_data` lists the data, makes the split, looks at every file once (`looking`), and hands the small
records that are left to the checks of `photos` or `scans`; `output` shows the findings.
"""
