"""What a run folder holds but its study no longer needs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medrobust.cli import app
from medrobust.errors import RunError
from medrobust.running.folder import left_overs
from medrobust.storage import RunFolder

USED = {
    "models": ["unet-target-s0"],
    "sets": ["fgsm--unet--1a"],
    "targets": ["unet-target-s0-77"],
}
KEPT = (
    "models/unet-target-s0/weights.safetensors",
    "crafted/fgsm--unet--1a/card.json",
    "results/parts/predictions/unet-target-s0-77/fgsm--unet--1a/00000",
    "results/parts/predictions/unet-target-s0-77/fgsm--unet--1a~8bit/00000",
    "results/parts/predictions/unet-target-s0-77/card.json",
)
LEFT = (
    "models/unet-target-s1/weights.safetensors",
    "crafted/fgsm--unet--0f/card.json",
    "results/parts/predictions/unet-target-s0-66/fgsm--unet--1a/00000",
    "results/parts/predictions/unet-target-s0-77/fgsm--unet--0f/00000",
    "results/parts/predictions/unet-target-s0-77/fgsm--unet--0f~8bit/00000",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    RunFolder(tmp_path).write_json(USED, "references.json")
    for name in (*KEPT, *LEFT):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return tmp_path


def there(folder: Path, names: tuple[str, ...]) -> list[bool]:
    return [(folder / name).exists() for name in names]


def clean(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["clean", str(folder), *options])


def test_what_the_study_does_not_need_is_found_with_its_size(folder: Path) -> None:
    found = left_overs(RunFolder(folder))
    assert {"/".join(each.parts) for each in found} == {str(Path(name).parent) for name in LEFT} - {
        "results/parts/predictions/unet-target-s0-66/fgsm--unet--1a"
    } | {"results/parts/predictions/unet-target-s0-66"}
    assert [each.bytes for each in found] == [5] * len(found)


def test_nothing_is_removed_unasked(folder: Path) -> None:
    said = clean(folder)
    assert said.exit_code == 0
    assert "Nothing was removed. Add --yes to remove it." in said.stdout
    assert all(there(folder, (*KEPT, *LEFT)))
    assert "Removed." in clean(folder, "--yes").stdout
    assert all(there(folder, KEPT))
    assert not any(there(folder, LEFT))
    assert clean(folder, "--yes").stdout == (
        "Nothing is left over: the study needs everything in the folder.\n"
    )


def test_another_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run folder, .*: it has no references\.json"):
        left_overs(RunFolder(tmp_path))
    assert clean(tmp_path, "--yes").exit_code == 1
