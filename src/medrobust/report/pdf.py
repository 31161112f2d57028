"""`report.pdf`: the report as a browser prints it."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from medrobust.errors import Remark

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
"""Commands of browsers that print without a window, in the order in which they are looked for."""

PATIENCE = 120
"""Seconds after which a browser is given up."""


def printed(page: bytes, browsers: Sequence[str] = BROWSERS) -> bytes | Remark:
    """A page as PDF; or, where there is no browser or it fails, what is missing and what to do.

    Args:
        page: HTML that opens offline.
        browsers: Commands to look for.
    """
    found = next((path for name in browsers if (path := shutil.which(name))), None)
    if found is None:
        return Remark(
            "overall",
            f"No report.pdf: none of {', '.join(browsers)} is installed. Install one and run `medrobust "
            "report` on this folder, or print report.html from a browser.",
        )
    with TemporaryDirectory(prefix="medrobust-") as temporary:
        source, target = Path(temporary) / "report.html", Path(temporary) / "report.pdf"
        source.write_bytes(page)
        command = [found, "--headless", "--disable-gpu", "--no-pdf-header-footer", f"--print-to-pdf={target}"]
        command += [f"--user-data-dir={temporary}/profile", source.as_uri()]
        if getattr(os, "geteuid", lambda: 1)() == 0:  # Chromium has no sandbox for root, as in a container
            command.insert(1, "--no-sandbox")
        try:
            done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return Remark("overall", f"No report.pdf: {found} failed ({error}). Print report.html by hand.")
        if done.returncode or not target.exists():
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            return Remark("overall", f"No report.pdf: {found} failed ({said[0]}). Print report.html by hand.")
        return target.read_bytes()
