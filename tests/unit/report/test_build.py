import html
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from made_rows import classification, segmentation
from made_studies import told
from medrobust.analysis.export import all_tables, as_json
from medrobust.analysis.results import Results
from medrobust.analysis.verdict import verdict
from medrobust.core import Task
from medrobust.errors import Remark, RunError
from medrobust.report import reading, style
from medrobust.report.build import build
from medrobust.report.page import ONLY_AS_FILES, QUESTIONS, STORY_TABLES
from medrobust.storage.folder import RunFolder
from medrobust.storage.rows import frame_of, write_results
from medrobust.storage.schemas import EMBEDDINGS

PLOTS = ("dotplot", "heatmap", "noise_control", "pairs", "plane", "risk_coverage")
NETWORKS = [f"{name}-{role}-s{seed}" for name in "abc" for role, seed in (("target", 0), ("surrogate", 1))]
STUDY = {
    "seed": 0,
    "models": [{"name": name} for name in "abc"],
    "targets": {"seeds": [0]},
    "surrogates": {"seeds": [1], "data": "disjoint", "models": None},
    "perturbations": [
        {
            "name": "fgsm",
            "label": "fgsm",
            "on_misclassified": "attack",
            "on_failure": "last",
            "eps": {"ssim": 0.98},
        },
        {
            "name": "deepfool",
            "label": "deepfool",
            "on_misclassified": "keep",
            "on_failure": "last",
            "steps": 50,
        },
    ],
    "noise": {"name": "gaussian"},
    "support": "auto",
    "crafting": {"quantise": True, "whitebox": True},
    "cases": {"per_patient": None, "total": None},
    "analysis": {"relevant_difference": 0.02},
}


def record(name: str, classes: tuple[str, ...]) -> dict[str, object]:
    data = {"name": name, "phantom": True, "classes": list(classes), "facts": {"spacing": "2 mm"}}
    data["fingerprint"] = "5e4d" * 16
    facts = {"networks": {name: {} for name in NETWORKS}, "perturbations": told(STUDY["perturbations"])}
    return {"data": data, "versions": {"medrobust": "0.1.0"}, **facts}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.write_bytes(yaml.safe_dump(STUDY).encode(), "study.yaml")
    folder.write_bytes(b"patient_id,part\np1,train\np2,train\np3,test\n", "split.csv")
    folder.write_json({"parameters": 12345, "score": 0.81, "curve": [1]}, "models", NETWORKS[0], "card.json")
    return folder


@pytest.fixture
def photographs() -> Results:
    def right(cell: object, patient: str, image: int) -> bool:
        return (len(str(cell)) + image) % 3 > 0

    results = classification(right, {f"p{index}": 4 for index in range(6)})
    return replace(results, record=record("phantom_lesions", results.classes))


@pytest.fixture
def slices() -> Results:
    results = segmentation(
        lambda cell, scan, structure: (10, 10, 5 + len(scan)), {f"p{i}": [f"s{i}"] for i in range(6)}
    )
    return replace(results, record=record("phantom_brains", results.classes))


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the files of figures blank, which takes most of the time; what a report says stays."""
    monkeypatch.setattr(style, "_saved", lambda *_, **__: b'<svg xmlns="http://www.w3.org/2000/svg"/>')


def put_examples(folder: RunFolder) -> None:
    arrays = {
        "images": np.random.default_rng(0).random((1, 3, 1, 6, 6)).astype(np.float32),
        "labels": np.array([0]),
        "predictions": np.array([[0, 0, 1]]),
        "probabilities": np.array([[0.9, 0.8, 0.7]]),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    folder.write_bytes(buffer.getvalue(), "results", "examples.npz")
    told = {
        "target": "a",
        "source": "a",
        "classes": ["benign", "malignant"],
        "cases": [{"case_id": "p0-0", "label": 0}],
    }
    folder.write_json(told | {"columns": ["clean", "gaussian@fgsm", "fgsm"]}, "results", "examples.json")


def put_features(folder: RunFolder) -> None:
    draws = np.random.default_rng(1)
    rows = [
        {
            "target": target,
            "target_seed": 0,
            "perturbation": name,
            "source": source,
            "source_seed": int(bool(source)),
        }
        | {"fold": None, "case_id": f"p{i}-0", "patient_id": f"p{i}", "label": i % 2}
        | {"embedding": draws.normal(size=4).tolist()}
        for target in "ab"
        for name, source in (("clean", ""), ("gaussian@fgsm", target), ("fgsm", target))
        for i in range(6)
    ]
    write_results(folder, EMBEDDINGS, frame_of(EMBEDDINGS, rows))


def built(folder: RunFolder, results: Results) -> str:
    conclusion = verdict(results)
    tables = {name: table.rows for name, table in all_tables(results, conclusion).items()}
    build(folder, results, tables, conclusion)
    return folder.read_bytes("report.html").decode()


def test_a_run_folder_gets_its_report_and_its_figures(folder: RunFolder, photographs: Results) -> None:
    put_examples(folder)
    put_features(folder)
    text = built(folder, photographs)
    figures = {f"{name}.{kind}" for name in (*PLOTS, "examples", "tsne") for kind in ("png", "svg")}
    assert set(folder.names("figures")) == figures
    assert text.count('<img src="data:image/svg') == 6, "Table 2 is a map of the page itself"
    assert text.count('<img src="data:image/png') == 3 + 2, "three images and two differences"
    assert "Robustness of 3 classification networks on phantom_lesions" in text
    for fact in ("2 mm", "12,345", "eps.ssim = 0.98", "steps = 50", "displacement ratio", "the other half"):
        assert fact in text, fact


def test_segmentation_has_structures_and_needs_no_features(folder: RunFolder, slices: Results) -> None:
    text = built(folder, slices)
    assert set(re.findall(r'id="(\w+)"', text)) >= {"overall", "structures", "success", "noise"}
    assert 'id="embedding"' not in text
    names = ("dotplot", "heatmap", "noise_control", "pairs", "plane")
    figures = {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert set(folder.names("figures")) == figures


def test_every_table_of_the_analysis_has_its_place(photographs: Results, slices: Results) -> None:
    placed = {*ONLY_AS_FILES, *STORY_TABLES, *(name for question in QUESTIONS for name in question.tables)}
    for results in (photographs, slices):
        assert set(all_tables(results, verdict(results))) <= placed


def test_networks_are_named_and_those_without_card_stay(folder: RunFolder) -> None:
    table = reading.read_networks(folder, ["my-net-v2-target-s10", NETWORKS[0], "unet-surrogate-s1-f3"])
    assert table.select("network", "role", "seed", "fold").rows() == [
        ("my-net-v2", "target", "10", None),
        ("a", "target", "0", None),
        ("unet", "surrogate", "1", "3"),
    ]
    assert table["parameters"].to_list() == [None, 12345, None]
    with pytest.raises(RunError, match="names a network 'unet'"):
        reading.read_networks(folder, ["unet"])


def test_what_was_assumed_is_told_once_for_all_seeds(folder: RunFolder) -> None:
    record = {
        "networks": {name: {"name": name[0]} for name in (NETWORKS[0], "m-target-s0", "m-target-s1")},
        "assumed": {"m-target-s0": ["Half was made float32."], "m-target-s1": ["Half was made float32."]},
    }
    assert reading.read_assumed(folder, record) == ("m: Half was made float32.",)
    card = folder.read_json("models", NETWORKS[0], "card.json") | {"assumed": ["The prefix is net."]}
    folder.write_json(card, "models", NETWORKS[0], "card.json")
    assert reading.read_assumed(folder, record)[0] == f"{NETWORKS[0][0]}: The prefix is net."


def test_the_record_counts_patients_instead_of_naming_them() -> None:
    patients = {"p1": "train", "p2": "train", "p3": "validation"}
    networks = {"a-target-s0": {"id": "a", "patients": patients}, "b-target-s0": {"id": "b"}}
    shown = reading.without_patients({"device": "cpu", "networks": networks})
    assert shown["device"] == "cpu"
    assert shown["networks"] == {
        "a-target-s0": {"id": "a", "patients": {"train": 2, "validation": 1}},
        "b-target-s0": {"id": "b"},
    }
    assert networks["a-target-s0"]["patients"] == patients


def test_patients_are_counted_by_part(folder: RunFolder) -> None:
    assert reading.read_split(folder).rows() == [("test", 1), ("train", 2)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"split\.csv is damaged .* Run the study again"),
        (b"a,b\n1,2\n", r"split\.csv must have the columns patient_id,part; got a,b"),
        (b"\xff\xfe\x00", r"split\.csv "),
    ],
)
def test_a_damaged_split_is_named(folder: RunFolder, content: bytes, message: str) -> None:
    folder.write_bytes(content, "split.csv")
    with pytest.raises(RunError, match=f"(?s){message}"):
        reading.read_split(folder)


def test_parameters_stand_in_one_cell() -> None:
    table = reading.attack_table(STUDY)
    assert table.rows()[0] == ("fgsm", "fgsm", "attack", "last", "eps.ssim = 0.98")


def test_a_missing_file_is_named(folder: RunFolder, slices: Results) -> None:
    folder.local("split.csv").unlink()
    with pytest.raises(RunError, match=r"split\.csv is missing in the run folder"):
        built(folder, slices)


def test_features_without_matched_noise_make_no_picture(folder: RunFolder, photographs: Results) -> None:
    put_features(folder)
    everything = pl.read_parquet(folder.local("results", "embeddings.parquet"))
    write_results(folder, EMBEDDINGS, everything.filter(pl.col("perturbation") != "gaussian@fgsm"))
    found = reading.embed(folder, photographs)
    assert (found.projection, found.numbers) == (None, None)
    assert [sentence.partition(":")[0] for sentence in found.missing[1:]] == [
        "No t-SNE of a",
        "No t-SNE of b",
    ]
    write_results(folder, EMBEDDINGS, everything.clear())
    found = reading.embed(folder, photographs)
    assert (found.projection, found.numbers) == (None, None)
    assert found.missing == tuple(f"No t-SNE of {name}, {UNKNOWN}" for name in "abc")


UNKNOWN = "because its features are not known."


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize("known", ["ab", "b", ""])
def test_networks_without_features_are_named_and_the_others_have_their_t_sne(
    folder: RunFolder, photographs: Results, known: str
) -> None:
    put_features(folder)
    everything = pl.read_parquet(folder.local("results", "embeddings.parquet"))
    write_results(folder, EMBEDDINGS, everything.filter(pl.col("target").is_in([*known])))
    text = built(folder, photographs)
    for name in "abc":
        assert (f"No t-SNE of {name}, {UNKNOWN}" in text) == (name not in known)
    assert ("tsne.svg" in folder.names("figures")) == bool(known)
    assert ("displacement ratio" in text) == bool(known)


@pytest.mark.usefixtures("unrendered")
def test_a_study_without_fgsm_misses_no_t_sne(folder: RunFolder, photographs: Results) -> None:
    other = {**STUDY, "perturbations": STUDY["perturbations"][1:]}
    folder.write_bytes(yaml.safe_dump(other).encode(), "study.yaml")
    assert "t-SNE" not in built(folder, photographs)


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(
    ("name", "said", "pictures"),
    [
        ("plots.heat_map", "figure 'heatmap'", 6),
        ("plots.plane_plot", "figure 'plane'", 5),
        ("reading.joint_tsne", "t-SNE", 5),
        ("build.read_explorer", "images one by one", 6),
    ],
)
def test_a_picture_that_fails_costs_no_report_and_is_told_of(
    folder: RunFolder,
    photographs: Results,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    said: str,
    pictures: int,
) -> None:
    put_examples(folder)
    put_features(folder)
    conclusion = verdict(photographs)
    made = all_tables(photographs, conclusion)
    tables = {name: table.rows for name, table in made.items()}

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a <b> of nothing")

    monkeypatch.setattr(f"medrobust.report.{name}", fail)
    lost = build(folder, photographs, tables, conclusion)
    features = f"No t-SNE of c, {UNKNOWN}"
    failed = f"No {said}: ZeroDivisionError: a <b> of nothing."
    assert set(lost) == ({failed} if said == "t-SNE" else {failed, features})
    text = folder.read_bytes("report.html").decode()
    assert html.escape(failed).replace("&#x27;", "&#39;") in text
    assert text.count('<img src="data:image/svg') == pictures
    assert as_json(photographs, made, conclusion, lost)["warnings"][-len(lost) :] == [*lost]


def test_a_damaged_file_of_a_picture_is_named_with_what_to_do(
    folder: RunFolder, photographs: Results
) -> None:
    put_features(folder)
    folder.write_bytes(b"no parquet", "results", "embeddings.parquet")
    with pytest.raises(RunError, match=r"embeddings\.parquet is damaged.*Run the study again"):
        built(folder, photographs)


@pytest.mark.usefixtures("unrendered")
def test_what_the_run_could_not_make_is_told_with_its_own_reason(
    folder: RunFolder, photographs: Results
) -> None:
    why = (
        Remark("embedding", "No t-SNE of a (target, seed 0): its features are not finite."),
        Remark("examples", "No examples: it is Sunday."),
    )
    text = built(folder, replace(photographs, left_out=why))
    assert all(remark.sentence in text for remark in why)
    assert "No t-SNE of a, " not in text
    assert f"No t-SNE of b, {UNKNOWN}" in text
    assert "the run kept none" not in text


@pytest.mark.usefixtures("unrendered")
def test_a_run_without_examples_says_so(folder: RunFolder, slices: Results) -> None:
    assert "No examples: the run kept none." in built(folder, slices)


@pytest.mark.usefixtures("unrendered")
def test_one_network_is_spoken_of_in_the_singular(folder: RunFolder) -> None:
    results = classification(lambda *_: True, {f"p{i}": 2 for i in range(3)}, models=("a",))
    text = built(folder, replace(results, record=record("x", results.classes)))
    assert "Robustness of 1 classification network on x" in text
    assert results.task is Task.CLASSIFICATION
