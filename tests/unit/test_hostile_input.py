"""Whatever a study, a split or a weights file holds: a message and an exit code, never a traceback."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from typer.testing import CliRunner, Result

from fitted_networks import coarse
from medrobust.cli import app
from medrobust.data import open_dataset
from medrobust.data.splitting.case_sets import select_cases
from medrobust.data.splitting.splits import make_split
from medrobust.errors import RunError
from medrobust.running import runner
from medrobust.study.config import Study, resolved

STUDY = """\
task: classification
data: {name: phantom_lesions, images: 100, size: 32}
split: {rule: patient, test: 0.4}
models:
  - {name: mobilenet_v1, training: {epochs: 2}}
perturbations:
  - {name: fgsm, eps: 2/255}
cases: {per_patient: 1}
"""
BROUGHT = {
    "task": "classification",
    "data": {"name": "phantom_lesions", "images": 100, "size": 32},
    "split": {"test": "all"},
    "models": [{"name": "mine", "load": "fitted_networks:coarse", "weights": "mine.pt"}],
    "surrogates": {"weights": {"mine": "other.safetensors"}},
    "perturbations": [{"name": "deepfool"}],
    "cases": {"per_patient": 1},
}
PATIENTS = sorted({case.patient_id for case in open_dataset(BROUGHT["data"], None, None).cases})
REACHED = "the study was read"
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies are read with their splits; no image is, since a mutation may ask for a million."""

    def set_up(study: Study, *_: object, **__: object) -> None:
        resolved(study)
        images = study.data.get("images")
        few = {"images": 100} if isinstance(images, int) and images > 100 else {}
        dataset = open_dataset(study.data | few, None, None)
        split = make_split(dataset, study.split, study.seed)
        select_cases(
            dataset, split, seed=study.seed, per_patient=study.cases.per_patient, total=study.cases.total
        )
        raise RunError(REACHED)

    monkeypatch.setattr(runner, "set_up", set_up)


def run(study: Path) -> Result:
    return CliRunner().invoke(app, ["run", str(study), "--out", str(study.parent / "run")])


def check(result: Result) -> None:
    """A message and the exit code for what a person can mend."""
    assert isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith(("Error: ", "Usage: "))
    assert "Traceback" not in result.stderr


def mutated(valid: bytes) -> st.SearchStrategy[bytes]:
    """A file in which a few places were overwritten, cut out or doubled."""
    pieces = st.binary(max_size=4) | st.sampled_from(
        [b"*a", b"&a ", b"<<: ", b"!!int ", b"{", b"[", b"]", b": ", b"- ", b"\n", b",", b'"', b"null",
         b".nan", b"1e999", b"-1", b"0", b"2001-13-45", b"9" * 5000, b"\x00", b"\xff"]
    )  # fmt: skip
    edit = st.tuples(st.integers(0, len(valid)), st.integers(0, 12), pieces)

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = valid
        for place, length, piece in edits:
            content = content[:place] + piece + content[place + length :]
        return content

    return st.lists(edit, min_size=1, max_size=4).map(apply)


def bomb(pattern: str) -> str:
    """Twelve lines, each of ten aliases of the line before."""
    return "a0: &a0 {k: 1}\n" + "".join(
        f"a{i}: &a{i} " + pattern.format(",".join([f"*a{i - 1}"] * 10), i=i) + "\n" for i in range(1, 13)
    )


def test_the_studies_that_are_broken_here_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    assert REACHED in run(tmp_path / "study.yaml").stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bomb("[{0}]"), "more than 100,000 values when its aliases"),
        (bomb("{{<<: [{0}], k{i}: 1}}"), "more than 100,000 values when its aliases"),
        (STUDY + "noise: &n {name: gaussian, more: *n}", "nests lists and keys deeper than 50 levels"),
        ("[" * 100_000, "nests lists and keys deeper than 50 levels"),
        ("- " * 100_000, "nests lists and keys deeper than 50 levels"),
        (STUDY + "task: segmentation\n", "gives the key 'task' twice, again in line 9. Keep one."),
        (STUDY + "cases:\n  total: 3\n", "gives the key 'cases' twice"),
        (STUDY + "#" * 2**20, "larger than 1 MB"),
        (STUDY + "seed: " + "9" * 5000, "is not valid YAML: a number, date or tag"),
        (STUDY + "seed: 2001-13-45", "is not valid YAML: a number, date or tag"),
        (STUDY + "seed: !!bool perhaps", "is not valid YAML: a number, date or tag"),
        ("seed: !!python/object/apply:os.system [exit]", "could not determine a constructor for the tag"),
        ("? [a]\n: b", "unhashable key"),
        ("", "must hold keys and values"),
        ("# nothing", "must hold keys and values"),
        ("- task: classification", "must hold keys and values"),
        ("classification", "must hold keys and values"),
        ("3", "must hold keys and values"),
        ("{1: 2, task: classification}", "study"),
        (STUDY + "---\n" + STUDY, "expected a single document"),
    ],
)
def test_studies_that_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "study.yaml").write_text(content)
    result = run(tmp_path / "study.yaml")
    check(result)
    assert message in result.stderr


@given(mutated(STUDY.encode()) | st.binary(max_size=40))
@example(b"data: []\nmodels: {}\ntask: classification")
@example(STUDY.replace("epochs: 2", "2").encode())
@FUZZ
def test_any_study(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "study.yaml").write_bytes(content)
    check(run(tmp_path / "study.yaml"))


PARTS = st.sampled_from(["train", "test", "validation", "unused", "trian", "", '"', "a,b", "test "])
LINES = st.lists(
    st.tuples(st.sampled_from([*PATIENTS, "nobody", "", '"']), PARTS).map(",".join),
    max_size=len(PATIENTS) + 2,
).map(lambda lines: "\n".join(["patient_id,part", *lines]).encode())
COMPLETE = "\n".join(["patient_id,part", *(f"{name},test" for name in PATIENTS)]).encode()


@given(LINES | mutated(COMPLETE) | st.binary(max_size=60))
@example(b"patient_id,part\n" + b"x" * 200_000)
@example(b'patient_id,part\n"' + COMPLETE)
@example(b"patient_id,part\r" + b"\r\n\r" * 4)
@example(b"patient_id,part,part,patient_id\na,b,c,d,e,f")
@FUZZ
def test_any_split(tmp_path: Path, content: bytes) -> None:
    study = yaml.safe_load(STUDY) | {"split": {"file": "split.csv"}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    (tmp_path / "split.csv").write_bytes(content)
    check(run(tmp_path / "study.yaml"))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return coarse(10, 3).state_dict()


@pytest.fixture
def with_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes, str], Result]]:
    """Runs a study whose network has weights of these bytes, with data and weights really read."""
    monkeypatch.undo()
    monkeypatch.setattr(runner, "make_plan", _stop)
    study = dict(BROUGHT)
    (tmp_path / "other.safetensors").write_bytes(save(coarse(10, 3).state_dict()))

    def with_weights(content: bytes, name: str) -> Result:
        study["models"] = [{**BROUGHT["models"][0], "weights": name}]
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
        (tmp_path / name).write_bytes(content)
        return run(tmp_path / "study.yaml")

    return with_weights


def _stop(*_: object) -> None:
    raise RunError(REACHED)


def torch_file(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def header(content: Mapping[str, Any] | bytes, size: int | None = None, data: bytes = b"") -> bytes:
    """A safetensors file with this header; `size` is what it says that the header's length is."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


class Command:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("pwned",)


def zipped(content: bytes) -> bytes:
    """A torch file packed anew, compressed, its first storage grown to 100 MB of zeros."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, bytes(10**8) if name.endswith("data/0") else old.read(name))
    return stream.getvalue()


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
SAFETENSORS = [
    b"",
    b"\x00" * 7,
    header({}, size=2**63),
    header({}, size=99_000_000),
    header(b"[" * 100_000),
    header(b'{"a":' * 50_000),
    header({"a": F32}),
    header({"a": {**F32, "shape": [2**40, 2**40]}}, data=bytes(8)),
    header({"a": {**F32, "data_offsets": [8, 0]}}, data=bytes(8)),
    header({"a": F32, "b": F32}, data=bytes(8)),
    header({"a": {**F32, "dtype": "F31"}}, data=bytes(8)),
    header({"a": {**F32, "shape": [-2]}}, data=bytes(8)),
    header({"__metadata__": {"a": 1}}),
    header({}),
]


@pytest.mark.parametrize("content", SAFETENSORS, ids=range(len(SAFETENSORS)))
def test_hostile_safetensors(with_weights: Callable[..., Result], content: bytes) -> None:
    result = with_weights(content, "mine.safetensors")
    check(result)
    assert "models.mine.weights: " in result.stderr
    assert "mine.safetensors" in result.stderr


def test_a_header_of_millions_of_tensors(with_weights: Callable[..., Result]) -> None:
    """Each of them empty: 75 MB of names take 2.7 GB to read."""
    content = header(b'{"a":' + b" " * 9 * 2**20 + json.dumps(F32).encode() + b"}", data=bytes(8))
    result = with_weights(content, "mine.safetensors")
    check(result)
    assert "its header claims 9 MB" in result.stderr
    many = {str(number): {**F32, "shape": [0], "data_offsets": [0, 0]} for number in range(500)}
    result = with_weights(header(many), "mine.safetensors")
    check(result)
    assert "and 402 more" in result.stderr


def test_hostile_torch_files(with_weights: Callable[..., Result], state: dict[str, torch.Tensor]) -> None:
    first = next(iter(state))
    for content, message in (
        (torch_file({"a": Command()}), "cannot be read safely"),
        (torch_file({"a": Command()}, _use_new_zipfile_serialization=False), "cannot be read safely"),
        (pickle.dumps(Command()), "cannot be read safely"),
        (zipped(torch_file(state)), "it is compressed, but torch.save never compresses"),
        (torch_file({1: torch.zeros(2)}), "do not fit the network"),
        (torch_file([torch.zeros(2)]), "holds no state dict"),
        (torch_file({"a": torch.zeros(1).expand(10**12)}), "do not fit the network"),
        (torch_file(state | {first: state[first].to("meta")}), "no data"),
        (torch_file(state | {first: state[first].to(torch.int8)}), "do not fit the network"),
        (torch_file(state)[:-200], "cannot be read safely"),
    ):
        result = with_weights(content, "mine.pt")
        check(result)
        assert message in result.stderr
        assert "pwned" not in result.output


@given(st.data())
@settings(FUZZ, max_examples=30)
def test_any_weights(
    with_weights: Callable[..., Result], state: dict[str, torch.Tensor], data: st.DataObject
) -> None:
    name, valid = data.draw(
        st.sampled_from(
            [
                ("mine.safetensors", save(state)),
                ("mine.pt", torch_file(state)),
                ("mine.pt", torch_file(state, _use_new_zipfile_serialization=False)),
            ]
        )
    )
    check(with_weights(data.draw(mutated(valid)), name))
