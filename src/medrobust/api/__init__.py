"""The Python interface: run a study, open what a run left, compare runs, and look at data and images."""

from medrobust.api.checking import check
from medrobust.api.comparing import Comparison, compare
from medrobust.api.in_memory import Attacked, attack, evaluate
from medrobust.api.runs import Run
from medrobust.api.studies import (
    audit,
    catalogue_table,
    plan,
    run,
    selftest,
    write_audit,
    write_audit_page,
)
from medrobust.audit.audit import Audit
from medrobust.audit.output import findings_table, summary
from medrobust.running.export import Wanted, export, exported_table, what_there_is
from medrobust.running.folder import clean, left_over_table, left_overs
from medrobust.running.selftest import selftest_table
from medrobust.study.templates import demo_study, write_template

__all__ = [
    "Attacked",
    "Audit",
    "Comparison",
    "Run",
    "Wanted",
    "attack",
    "audit",
    "catalogue_table",
    "check",
    "clean",
    "compare",
    "demo_study",
    "evaluate",
    "export",
    "exported_table",
    "findings_table",
    "left_over_table",
    "left_overs",
    "plan",
    "run",
    "selftest",
    "selftest_table",
    "summary",
    "what_there_is",
    "write_audit",
    "write_audit_page",
    "write_template",
]
