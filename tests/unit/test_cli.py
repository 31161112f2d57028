"""What a person sees when something is wrong: one message, the right exit code, and no traceback."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

import made_folders
from fitted_networks import coarse, save
from medrobust import __version__, api
from medrobust.cli import app
from medrobust.data import open_dataset
from medrobust.data.phantoms import datasets
from medrobust.errors import RunError
from medrobust.running import runner
from medrobust.running.executors.local import clear_memory_errors
from medrobust.running.jobs import Job, Kind
from medrobust.study.reading import read_study

LESIONS: dict[str, Any] = {
    "task": "classification",
    "data": {"name": "phantom_lesions", "images": 100, "size": 32},
    "models": [{"name": "mine", "load": "fitted_networks:coarse", "train": True}],
}
Write = Callable[..., Path]
BEGAN = 77
"""Exit code of a run that would have begun its work."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a study of phantom lesions with some keys changed."""

    def write(**keys: Any) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(LESIONS | keys), encoding="utf-8")
        return path

    return write


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong must be said before the first job."""

    def refuse(*_: object) -> None:
        raise SystemExit(BEGAN)

    monkeypatch.setattr(runner, "_execute", refuse)


def medrobust(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fails_with(result: Result, message: str, code: int = 1) -> None:
    """Exit code, and one message on the error stream that holds `message`."""
    assert (result.exit_code, result.stdout) == (code, "")
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"modles": []}, "study: Unknown key 'modles'. Did you mean 'models'?"),
        ({"task": "classifcation"}, "study.task: "),
        (
            {"data": {"name": "phantom_lesion"}},
            "Unknown data set 'phantom_lesion'. Did you mean 'phantom_lesions'?",
        ),
        ({"data": {"name": ["x"]}}, "data.name: Unknown data set"),
        ({"data": LESIONS["data"] | {"sise": 32}}, "data: Unknown key 'sise'. Did you mean 'size'?"),
        (
            {"data": LESIONS["data"] | {"size": 5}},
            "data.size: Input should be greater than or equal to 32; got 5.",
        ),
        (
            {"data": LESIONS["data"] | {"root": "x"}},
            "data.root: 'phantom_lesions' is generated and has no folder",
        ),
        (
            {"data": {"name": "phantom_brains", "subjects": 2}},
            "study.task is classification, but 'phantom_brains'",
        ),
        ({"data": {"name": "ham10000"}}, "data.root: 'ham10000' needs the folder of its files"),
        (
            {"data": {"name": "ham10000", "root": "nowhere"}},
            "the folder of 'ham10000' does not exist; got nowhere",
        ),
        ({"models": [{"name": "mobilnet_v1"}]}, "Did you mean 'mobilenet_v1'?"),
        (
            {"models": [{"name": "unet"}]},
            "'unet' is a network for segmentation, but the study's task is class",
        ),
        ({"models": [{"name": "a/b", "architecture": "mobilenet_v1"}]}, "a name may hold letters, digits"),
        (
            {"models": [{"name": "x", "load": "nowhere.nets:build"}]},
            "there is no Python module 'nowhere.nets'",
        ),
        (
            {"models": [{"name": "mobilenet_v1", "weights": "no.pt"}]},
            "no.pt'. Besides a path it may be none, imagenet",
        ),
        ({"models": [{"name": "mobilenet_v1", "training": 3}]}, "mobilenet_v1.training must hold keys"),
        ({"models": [{"name": "mobilenet_v1", "training": {"epoch": 3}}]}, "Did you mean 'epochs'?"),
        (
            {"models": [{"name": "x", "load": "made_networks:of_seven", "train": True}]},
            "models.x: It returns 7 classes, but",
        ),
        (
            {"models": [{"name": "x", "load": "made_networks:broken", "train": True}]},
            "RuntimeError: the user's bug",
        ),
        (
            {"models": [{"name": "mine", "load": "fitted_networks:coarse"}]},
            "'mine' brings trained weights, so the split",
        ),
        ({"split": {"rule": "patients"}}, "split.rule: Unknown rule 'patients'. Did you mean 'patient'?"),
        ({"split": {"rule": "official"}}, "'phantom_lesions' has no official split"),
        (
            {"split": {"test": "all"}},
            "split leaves no training patients, but mine-target-s0 is to be trained here",
        ),
        (
            {"split": {"file": "none.csv"}},
            "none.csv: cannot be read as a table: No such file or directory. Check the path.",
        ),
        (
            {"data": LESIONS["data"] | {"images": 30}, "split": {"rule": "patient", "test": 0.1}},
            "has no case in the",
        ),
        ({"perturbations": []}, "study.perturbations must hold at least one attack"),
        (
            {"perturbations": [{"name": "fgsm"}, {"name": "gaussian", "label": "weak"}]},
            "perturbations.weak.strength: this key is required",
        ),
        ({"perturbations": [{"name": "fgsm", "label": "clean"}]}, "the label 'clean' is reserved"),
        (
            {"perturbations": [{"name": "fgsm", "eps": {"ssmi": 0.9}}]},
            "fgsm.eps: must be a number or {ssim: s}",
        ),
        (
            {"noise": {"name": "fgsm"}},
            "noise.fgsm: 'fgsm' is not declared to be noise; gaussian, rician, random_signs are, and a",
        ),
        (
            {"noise": {"name": "gaussian", "strength": 0.1}},
            "matched to every attack, so it takes no strength",
        ),
        ({"noise": [{"name": "gaussian"}]}, "study.noise: "),
        ({"surrogates": {"seeds": [1, 1]}}, "give every seed only once; got [1, 1]"),
        ({"surrogates": {"seeds": [1, 2], "weights": {"mine": __file__}}}, "are the same for every seed"),
        (
            {"surrogates": {"weights": {"mine": "none.pt"}}},
            "study.surrogates.weights.mine: there is no file '",
        ),
        ({"cases": {"total": 3}}, "cases.total: 5 per class need at least 43; got 3"),
    ],
)
def test_a_study_that_cannot_be(write: Write, tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    fails_with(medrobust("run", write(**keys), "--out", tmp_path / "run"), message)


def test_photographs_cannot_be_limited_in_segmentation(write: Write, tmp_path: Path) -> None:
    data = {"name": "phantom_brains", "subjects": 3, "spacing": 4.0}
    study = write(task="segmentation", data=data, models=[{"name": "unet"}], cases={"total": 9})
    fails_with(
        medrobust("run", study, "--out", tmp_path / "run"), "cases.total: applies to photographs only; got 9"
    )


def test_a_budget_in_ssim_needs_validation_cases(write: Write, tmp_path: Path) -> None:
    save(coarse(10, 3), tmp_path / "a.safetensors")
    save(coarse(10, 3), tmp_path / "b.safetensors")
    models = [{"name": "mine", "load": "fitted_networks:coarse", "weights": "a.safetensors"}]
    surrogates = {"weights": {"mine": "b.safetensors"}}
    study = write(models=models, surrogates=surrogates, split={"test": "all"})
    fails_with(medrobust("run", study, "--out", tmp_path / "run"), "fgsm.eps is solved on validation cases")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not tensors", "models.mine.weights: The weights file"), (None, "do not fit the network")],
)
def test_weights_that_do_not_fit(write: Write, tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "w.safetensors"
    if content is None:
        save(torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False)), path)
    else:
        path.write_bytes(content)
    models = [{"name": "mine", "load": "fitted_networks:coarse", "weights": "w.safetensors"}]
    study = write(
        models=models,
        split={"test": "all"},
        surrogates={"weights": {"mine": "w.safetensors"}},
        perturbations=[{"name": "deepfool"}],
    )
    result = medrobust("run", study, "--out", tmp_path / "run")
    fails_with(result, message)
    assert "w.safetensors" in result.stderr


def test_a_surrogate_that_is_the_target(write: Write, tmp_path: Path) -> None:
    save(coarse(10, 3), tmp_path / "w.safetensors")
    models = [{"name": "mine", "load": "fitted_networks:coarse", "weights": "w.safetensors"}]
    study = write(
        models=models,
        split={"test": "all"},
        surrogates={"weights": {"mine": "w.safetensors"}},
        perturbations=[{"name": "deepfool"}],
    )
    fails_with(medrobust("run", study, "--out", tmp_path / "run"), "are the same network")


def test_a_patient_on_both_sides_of_a_split_file(write: Write, tmp_path: Path) -> None:
    name = open_dataset(LESIONS["data"], None, None).cases[0].patient_id
    (tmp_path / "split.csv").write_text(f"patient_id,part\n{name},train\n{name},test\n")
    result = medrobust("run", write(split={"file": "split.csv"}), "--out", tmp_path / "run")
    fails_with(result, f"patient '{name}' is in both train and test. Keep one.")
    assert f"{tmp_path / 'split.csv'}, row 3" in result.stderr  # relative to the study's file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "--set takes key.path=value, got 'seed'"),
        ("seed=[", "'[' is not a valid YAML value"),
        ("seed=-1", "study.seed: "),
        ("models.mone.train=true", "Unknown item 'mone'. Did you mean 'mine'?"),
        ("cases.totl=9", "Unknown key 'totl'. Did you mean 'total'?"),
    ],
)
def test_wrong_changes(write: Write, tmp_path: Path, change: str, message: str) -> None:
    fails_with(medrobust("run", write(), "--out", tmp_path / "run", "--set", change), message)


@pytest.mark.parametrize("device", ["cuda:99", "toaster", "meta"])
def test_a_device_that_is_not_there(write: Write, tmp_path: Path, device: str) -> None:
    result = medrobust("run", write(), "--out", tmp_path / "run", "--device", device)
    fails_with(result, f"--device: '{device}' cannot be used here")


def test_out_is_a_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    fails_with(medrobust("run", write(), "--out", tmp_path / "taken"), "taken' is a file. Give a folder")


def test_out_is_in_a_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    result = medrobust("run", write(), "--out", tmp_path / "taken" / "run")
    fails_with(result, "a file cannot be read or written: [Errno 20]")


def test_errors_of_the_disk_outside_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "table1.csv")

    monkeypatch.setattr(api.Run, "open", unreadable)
    fails_with(medrobust("report", tmp_path), "Permission denied: 'table1.csv'")


def test_a_study_file_that_is_missing_or_none(tmp_path: Path) -> None:
    fails_with(medrobust("run", tmp_path / "no.yaml"), "There is no study file")
    (tmp_path / "no.yaml").write_bytes(b"\xff\xfe\x00")
    fails_with(medrobust("run", tmp_path / "no.yaml"), "cannot be read")
    fails_with(medrobust("run", tmp_path), "cannot be read")


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (None, "is not a run folder: it has no study.yaml"),
        ("task: [", "study.yaml is damaged, or of another version"),
        (
            "task: classification",
            "study.yaml is damaged, or of another version: study.data: this key is required",
        ),
        (yaml.safe_dump(LESIONS), "is not finished. Run its study again"),
    ],
)
def test_a_report_of_no_finished_run(tmp_path: Path, stored: str | None, message: str) -> None:
    if stored is not None:
        (tmp_path / "study.yaml").write_text(stored)
    fails_with(medrobust("report", tmp_path), message)
    fails_with(medrobust("view", tmp_path), message)


def test_init_writes_once(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    for task, data in (("classification", "phantom_lesions"), ("segmentation", "phantom_brains")):
        assert medrobust("init", path, "--task", task, "--data", data).exit_code == 0
        assert read_study(path).data["name"] == data
        fails_with(medrobust("init", path), "already exists and is left as it is")
        path.unlink()
    fails_with(medrobust("init", tmp_path / "no" / "new.yaml"), "cannot be written: No such file")
    fails_with(medrobust("init", path, "--data", "malc"), "Unknown data set 'malc'. Did you mean 'malc2012'?")
    fails_with(medrobust("init", path, "--data", "ham10000"), "Add --task classification")


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        (
            ["--out", "shown/"],
            {"shown/classification": "classification", "shown/segmentation": "segmentation"},
        ),
        (["--task", "segmentation", "--out", "shown"], {"shown": "segmentation"}),
    ],
)
def test_a_demo_has_a_run_folder_for_each_study(
    arguments: list[str], runs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: dict[str, str] = {}

    def begin(study: dict[str, Any], out: str, **_: Any) -> SimpleNamespace:
        begun[out] = read_study(study).task
        return SimpleNamespace(report=f"{out}/report.html")

    monkeypatch.setattr(api, "run", begin)
    assert medrobust("demo", *arguments).stdout.splitlines() == [f"Report: {out}/report.html" for out in runs]
    assert begun == runs


@pytest.mark.parametrize("arguments", [["runn"], ["run"], ["run", "x", "--ot", "y"], ["demo", "--task", "x"]])
def test_wrong_usage(arguments: list[str]) -> None:
    result = medrobust(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_an_interrupt_keeps_what_is_finished(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_execute", interrupt)
    result = medrobust("run", write(), "--out", tmp_path / "run")
    assert result.exit_code == 3
    assert "the same command resumes from there" in result.stderr


def test_what_a_run_says_first(write: Write, tmp_path: Path) -> None:
    result = medrobust("run", write(), "--out", tmp_path / "run")
    assert result.exit_code == BEGAN
    assert "1 network, 3 attacks" in result.stdout
    assert "time left" in result.stdout
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "cache",
        "study.yaml",
        "record.json",
        "references.json",
        ".lock",
        "split.csv",
    }


class TestFolderOfAnotherStudy:
    @pytest.fixture
    def begun(self, write: Write, tmp_path: Path) -> Path:
        medrobust("run", write(), "--out", tmp_path / "run")
        return tmp_path / "run"

    def test_other_keys(self, begun: Path, write: Write) -> None:
        result = medrobust("run", write(seed=7, surrogates={"seeds": [3]}), "--out", begun)
        assert result.exit_code == BEGAN
        assert "has changed since this run folder was begun: seed, targets, surrogates." in result.stdout
        assert "made again: mine-surrogate-s1, mine-target-s0." in " ".join(result.stdout.split())

    def test_a_plan_says_what_a_run_would_do(self, begun: Path, write: Write) -> None:
        before = {path: path.stat().st_mtime_ns for path in begun.rglob("*")}
        result = medrobust("plan", write(cases={"total": 45}), "--out", begun)
        assert result.exit_code == 0, result.output
        assert "has changed since this run folder was begun: cases." in result.stdout
        assert "craft" in result.stdout
        assert {path: path.stat().st_mtime_ns for path in begun.rglob("*")} == before
        assert medrobust("plan", write(), "--out", begun.parent / "none").exit_code == 0
        assert not (begun.parent / "none").exists()

    def test_other_data(self, begun: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(datasets, "REVISION", 99)
        fails_with(medrobust("run", write(), "--out", begun), "was made with other data")

    def test_other_patients(self, begun: Path, write: Write) -> None:
        """A split file that changed must not leave networks that were trained on what is now tested."""
        medrobust("run", write(split={"file": "split.csv"}), "--out", begun)
        split = begun / "split.csv"
        (begun.parent / "split.csv").write_bytes(split.read_bytes())
        study, other = write(split={"file": "split.csv"}), begun.parent / "other"
        assert medrobust("run", study, "--out", other).exit_code == BEGAN
        lines = split.read_text().splitlines()
        patients = Counter(case.patient_id for case in open_dataset(LESIONS["data"], None, None).cases)
        place = lines.index(f"{patients.most_common()[-1][0]},train")
        lines[place] = lines[place].replace("train", "unused")
        (begun.parent / "split.csv").write_text("\n".join(lines))
        result = medrobust("run", study, "--out", other)
        assert "begun: files that it names." in result.stdout
        assert "made again: mine-surrogate-s1, mine-target-s0." in " ".join(result.stdout.split())

    def test_analysis_and_batch_size_may_change(self, begun: Path, write: Write) -> None:
        study = write(analysis={"resamples": 100}, crafting={"batch_size": 3})
        assert medrobust("run", study, "--out", begun).exit_code == BEGAN
        stored = yaml.safe_load((begun / "study.yaml").read_text())
        assert (stored["analysis"]["resamples"], stored["crafting"]["batch_size"]) == (100, 3)


@pytest.mark.parametrize("what", ["models", "perturbations", "datasets", ""])
def test_lists(what: str) -> None:
    result = medrobust("list", *([what] if what else []))
    assert result.exit_code == 0
    assert "what it is" in result.stdout


def test_what_nobody_foresaw_is_kept_for_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.Run, "open", lambda path: {}["missing"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fails_with(medrobust("report", tmp_path), "KeyError: 'missing'. This should not happen. Please report it")
    (kept,) = tmp_path.glob("medrobust-*.txt")
    assert "Traceback" in kept.read_text()


def test_schema_and_version() -> None:
    assert yaml.safe_load(medrobust("schema").stdout)["title"] == "Study"
    assert medrobust("--version").stdout == f"medrobust {__version__}\n"


OWN = """
import numpy as np, torch
from medrobust.core import Case, Dataset, Sample, Task

def inverted(model, images, labels, *, support=None, rngs=None):
    return 1 - images if support is None else torch.where(support, 1 - images, images)

def doubled(model, images, labels, *, support=None, rngs=None):
    return 2 * images

def tiles(side: int = 8) -> Dataset:
    cases = tuple(Case(f"c{n:02d}", f"c{n:02d}", f"p{n}", label=n % 2) for n in range(12))
    read = lambda case: Sample(np.full((1, side, side), 0.5, np.float32), np.array(case.label, np.int64))
    return Dataset(name="tiles", task=Task.CLASSIFICATION, classes=("a", "b"), unit="patient", channels=1,
                   shape=(side, side), spacing=None, cases=cases, read=read, fingerprint="1")

def bright() -> Dataset:
    return tiles(0)

def recall(n_true, n_both):
    return n_both / n_true

def surplus(n_true, n_pred):
    return n_pred + n_true

def other(x, y):
    return x + y
"""


class TestCheck:
    @pytest.fixture(autouse=True)
    def beside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own_things.py").write_text(OWN)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.delitem(sys.modules, "own_things", raising=False)

    @pytest.mark.parametrize(
        ("what", "kind"),
        [
            ("made_networks:classifier", "network"),
            ("own_things:inverted", "perturbation"),
            ("own_things:tiles", "data set"),
            ("own_things:recall", "score"),
        ],
    )
    def test_what_keeps_its_contract(self, what: str, kind: str) -> None:
        result = medrobust("check", what)
        assert (result.exit_code, result.stdout) == (0, f"{what}: nothing is wrong with this {kind}.\n")

    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("made_networks:softmax", "It returns probabilities: all values lie"),
            ("made_networks:the_same_again", "It returns the same weights in every call"),
            ("own_things:doubled", "[0, 1]"),
            ("own_things:bright", "shape"),
            ("own_things:surplus", "Its values must lie in [0, 1]"),
        ],
    )
    def test_what_breaks_its_contract(self, what: str, message: str) -> None:
        result = medrobust("check", what)
        assert result.exit_code == 1
        assert result.stdout.startswith("- ")
        assert message in result.stdout

    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("own_things:other", "is none of what medrobust can use: a perturbation takes (model, images"),
            ("own_things:nothing", "`own_things:nothing` cannot be imported: AttributeError"),
            ("nowhere:thing", "there is no Python module 'nowhere'"),
            ("nowhere.yaml", "There is no study file 'nowhere.yaml'"),
        ],
    )
    def test_what_cannot_be_checked(self, what: str, message: str) -> None:
        fails_with(medrobust("check", what), message)

    def test_a_study(self, write: Write) -> None:
        study = write()
        assert medrobust("check", study).stdout == f"{study}: nothing is wrong with this study.\n"
        models = [{"name": "x", "load": "made_networks:of_seven", "train": True}]
        fails_with(medrobust("check", write(models=models)), "models.x: It returns 7 classes")


class TestAsAProcess:
    def command(self, *arguments: object, folder: Path) -> dict[str, Any]:
        return {
            "args": [sys.executable, "-m", "medrobust", *map(str, arguments)],
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "cwd": folder,
            "env": os.environ | {"COLUMNS": "80", "PYTHONPATH": os.pathsep.join(sys.path)},
        }

    def run(self, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(**self.command(*arguments, folder=folder), check=False)

    def test_one_message_and_no_traceback(self, write: Write, tmp_path: Path) -> None:
        done = self.run("run", write(modles=3), folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: study: Unknown key 'modles'.")
        assert len(done.stderr.splitlines()) == 1

    def test_wrong_usage(self, tmp_path: Path) -> None:
        done = self.run("rnu", folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("Usage: python -m medrobust ")

    @pytest.mark.slow
    def test_an_interrupt_in_a_training_and_going_on(self, write: Write, tmp_path: Path) -> None:
        study = write(
            training={"epochs": 300}, perturbations=[{"name": "deepfool", "steps": 2}], cases={"total": 45}
        )
        arguments = ("run", study, "--out", tmp_path / "run")
        process = subprocess.Popen(**self.command(*arguments, folder=tmp_path))
        state = tmp_path / "run" / "models" / "mine-target-s0" / "last.ckpt.gz"
        while not state.exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 3, said
        assert said.strip().splitlines()[-1].endswith("the same command resumes from there.")
        assert state.exists()
        done = self.run(*arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len((state.parent / "log.csv").read_text().splitlines()) == 301


@pytest.mark.parametrize(
    ("step", "lower"),
    [
        ("train", "training.batch_size"),
        ("craft", "crafting.batch_size"),
        ("certify", "certificates.attack_draws"),
    ],
)
def test_memory_that_runs_out_names_the_step_and_what_to_lower(step: Kind, lower: str) -> None:
    job = Job(step, "unet", f"{step} unet", 1.0, 0, set, lambda: pytest.fail("is not opened here"))
    with (
        pytest.raises(RunError, match=rf"Out of memory: {step} unet.*lower {re.escape(lower)},"),
        clear_memory_errors(job),
    ):
        raise torch.OutOfMemoryError


class TestDamagedScans:
    """The files of a real data set, one of them damaged; said with its name, before any training."""

    @pytest.fixture
    def scans(self, tmp_path: Path) -> Path:
        made_folders.malc2012(tmp_path / "malc2012")
        return tmp_path / "malc2012"

    def refused(self, scans: Path, write: Write, victim: Path, message: str) -> None:
        data = {"name": "malc2012", "root": "malc2012"}
        study = write(task="segmentation", data=data, models=[{"name": "unet", "preset": "tiny"}])
        result = medrobust("run", study, "--data", scans.parent, "--out", scans.parent / "run")
        fails_with(result, message)
        assert victim.name in result.stderr
        assert len(result.stderr.splitlines()) == 1

    def test_a_label_outside_the_map(self, scans: Path, write: Write) -> None:
        victim = scans / "testing-labels" / "1003_3_glm.nii.gz"
        made_folders.write_volume(victim, np.full((24, 30, 20), 999, np.int16))
        self.refused(
            scans, write, victim, "holds the label 999, which is not among 'left cerebral white matter'"
        )

    def test_another_shape(self, scans: Path, write: Write) -> None:
        victim = scans / "training-labels" / "1000_3_glm.nii.gz"
        made_folders.write_volume(victim, np.full((24, 30, 21), 45, np.int16))
        self.refused(scans, write, victim, "has the shape (24, 30, 20), but its labels")

    def test_another_affine(self, scans: Path, write: Write) -> None:
        victim = scans / "training-labels" / "1000_3_glm.nii.gz"
        made_folders.write_volume(victim, np.full((24, 30, 20), 45, np.int16), np.diag([-2.0, 1, 1, 1]))
        self.refused(scans, write, victim, "affines that differ by up to ")

    def test_nan(self, scans: Path, write: Write) -> None:
        victim = scans / "training-images" / "1001_3.nii.gz"
        made_folders.write_volume(victim, np.full((24, 30, 20), np.nan, np.float32))
        self.refused(scans, write, victim, "holds NaN or infinite intensities in 14400 voxels")

    def test_half_a_file(self, scans: Path, write: Write) -> None:
        victim = scans / "training-images" / "1001_3.nii.gz"
        victim.write_bytes(victim.read_bytes()[:2000])
        self.refused(scans, write, victim, "cannot be read")

    def test_no_labels(self, scans: Path, write: Write) -> None:
        victim = scans / "training-labels" / "1001_3_glm.nii.gz"
        victim.unlink()
        self.refused(scans, write, scans / "training-images" / "1001_3.nii.gz", "has no labels")

    def test_a_patient_on_both_sides(self, scans: Path, write: Write) -> None:
        for kind, suffix in (("images", ""), ("labels", "_glm")):
            source = scans / f"training-{kind}" / f"1001_3{suffix}.nii.gz"
            (scans / f"testing-{kind}" / source.name).write_bytes(source.read_bytes())
        patient = scans / "1001"
        self.refused(scans, write, patient, "in several parts of the data's split: '1001'")


class TestDamagedPhotographs:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        return made_folders.ham10000(tmp_path / "ham10000", lesions=6)

    def refused(self, photos: Path, write: Write, message: str) -> None:
        data = {"name": "ham10000", "root": "ham10000", "size": 32}
        study = write(data=data, split={"rule": "patient", "test": 0.5})
        result = medrobust("run", study, "--data", photos.parent, "--out", photos.parent / "run")
        fails_with(result, message)
        assert len(result.stderr.splitlines()) == 1

    def test_half_a_test_image(self, photos: Path, write: Write) -> None:
        for path in (photos / "images").iterdir():
            path.write_bytes(path.read_bytes()[:200])
        self.refused(photos, write, "cannot be read as an image")

    def test_an_empty_class(self, photos: Path, write: Write) -> None:
        table = photos / "HAM10000_metadata.csv"
        table.write_text("\n".join(row for row in table.read_text().splitlines() if ",mel," not in row))
        self.refused(photos, write, "'mel'")

    def test_an_unknown_diagnosis(self, photos: Path, write: Write) -> None:
        table = photos / "HAM10000_metadata.csv"
        table.write_text(table.read_text().replace(",mel,", ",mell,", 1))
        self.refused(photos, write, "'mell'. Did you mean 'mel'?")
