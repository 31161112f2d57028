"""LaTeX itself reads tables, with the packages that they say they need and no others."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

HEAD = r"\documentclass{article}\usepackage[a4paper,margin=25mm]{geometry}"
FLAWS = re.compile(r"^(?:!|Overfull|Missing character).*", re.MULTILINE)


def flaws(tables: Iterable[str], folder: Path) -> list[str]:
    """What LaTeX has to say against tables, each on its own page: errors, and what is too wide or high.

    Without LaTeX the test is skipped.
    """
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no LaTeX: install pdflatex with booktabs (Debian: texlive-latex-recommended)")
    tables = list(tables)
    packages = sorted({table.splitlines()[0].removeprefix("% ") for table in tables})
    pages = (f"\\noindent\n{table}\\clearpage" for table in tables)
    lines = [HEAD, *packages, r"\begin{document}", *pages, r"\end{document}"]
    (folder / "all.tex").write_text("\n".join(lines), encoding="utf-8")
    subprocess.run(
        [program, "-interaction=nonstopmode", "-no-shell-escape", "all.tex"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    return FLAWS.findall((folder / "all.log").read_text(encoding="latin-1"))
