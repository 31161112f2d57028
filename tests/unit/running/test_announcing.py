"""What is said before a run begins."""

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from medrobust.running.announcing import announce
from medrobust.storage import RunFolder
from tiny_cases import photos
from whole_steps import setup_of


def test_the_name_of_the_data_is_shown_as_it_is(tmp_path: Path) -> None:
    setup = setup_of(replace(photos(), name="lesions [v2] [/new]"), RunFolder(tmp_path))
    vars(setup.study)["specs"] = ()  # the networks of `setup_of` do not exist
    console = Console(file=io.StringIO(), width=500)
    announce(setup, [], console)
    assert "classification on lesions [v2] [/new]: 0 networks" in console.file.getvalue()
