"""`medrobust audit`: read the data of a study as a run would, change nothing, and say what is wrong.

Every file is looked at once (`photo_look`, `scan_look`), which leaves a small record (`records`). Checks are
functions from all records to findings: `photo_checks.PHOTO_CHECKS` and `scan_checks.SCAN_CHECKS` list them.
"""
