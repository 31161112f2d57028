"""Networks and images at hand: `mr.attack`, `mr.evaluate`."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

import medrobust as mr
from medrobust.analysis.crafting import matching
from medrobust.errors import DataError, ModelError, RunError, StudyError
from medrobust.perturbations import fgsm, perturbation
from medrobust.storage import ImageStore
from tiny_cases import ByBrightness, ByChannel, photos, scans

pytestmark = pytest.mark.usefixtures("blank_figures")

PHOTOS, SCANS = photos(18), scans()


def arrays(dataset: Any) -> tuple[Tensor, Tensor]:
    samples = [dataset.read(case) for case in dataset.cases]
    return tuple(torch.from_numpy(np.stack(values)) for values in zip(*samples, strict=True))


class TestAttack:
    images, labels = arrays(PHOTOS)

    def test_it_does_what_the_function_does_and_measures_it(self) -> None:
        network = ByChannel().train()
        attacked = mr.attack(network, self.images, self.labels, "fgsm", eps=6 / 255, batch_size=5)
        expected = fgsm(network, self.images, self.labels, eps=6 / 255)
        torch.testing.assert_close(attacked.images, expected)
        wrong = network(expected).argmax(1) != self.labels
        assert torch.equal(attacked.success, wrong)
        assert 0 < wrong.sum() < len(wrong)
        change = (expected - self.images).flatten(1)
        torch.testing.assert_close(attacked.linf.float(), change.abs().amax(1))
        torch.testing.assert_close(attacked.l2.float(), change.norm(dim=1))
        assert ((attacked.ssim > 0.5) & (attacked.ssim < 1)).all()
        assert network.training
        assert all(weight.requires_grad for weight in network.parameters())

    def test_draws_depend_on_the_seed_and_not_on_the_batch(self) -> None:
        def images_of(**keys: Any) -> Tensor:
            return mr.attack(ByChannel(), self.images, self.labels, "pgd", steps=3, **keys).images

        assert torch.allclose(images_of(batch_size=4), images_of(), atol=1e-5)
        assert not torch.allclose(images_of(seed=1), images_of(), atol=1e-5)

    @pytest.mark.parametrize(
        ("network", "labels"),
        [
            (lambda images: ByChannel()(images), labels),
            (nn.Sequential(ByChannel(), nn.Linear(3, 1), nn.Flatten(0)), labels % 2),
            (mr.Network(ByChannel(), mean=0.5, std=0.5), labels),
            (
                mr.Network(lambda images: {"aux": None, "scores": ByChannel()(images)}, output="scores"),
                labels,
            ),
        ],
        ids=["function", "one logit", "normalised", "dict"],
    )
    def test_networks_of_all_kinds(self, network: Any, labels: Tensor) -> None:
        attacked = mr.attack(network, self.images.numpy(), labels.numpy(), "pgd", steps=2)
        assert attacked.images.shape == self.images.shape
        assert (attacked.linf <= 2 / 255 + 1e-6).all()

    def test_targets_and_support_of_a_segmentation(self) -> None:
        images, labels = arrays(SCANS)
        support = torch.zeros_like(images, dtype=torch.bool)
        support[:, :, 8:20, 8:20] = True
        attacked = mr.attack(ByBrightness(), images, labels, "dag_a", support=support, steps=30)
        changed = attacked.images != images
        assert changed.any()
        assert not (changed & ~support).any()
        assert torch.equal(attacked.success, attacked.fooled > 0)

    def test_ones_own_function(self) -> None:
        def invert(
            model: Any, images: Tensor, labels: Tensor, *, support: Any = None, rngs: Any = None
        ) -> Tensor:
            return 1 - images

        attacked = mr.attack(ByChannel(), self.images, self.labels, invert)
        torch.testing.assert_close(attacked.images, 1 - self.images)

    @pytest.mark.parametrize(
        ("attack", "keys", "error", "message"),
        [
            ("fgsn", {}, StudyError, r"Unknown perturbation 'fgsn'\. Did you mean 'fgsm'"),
            ("pgd", {"epss": 1}, StudyError, "Did you mean 'eps'"),
            ("dag_a", {}, StudyError, "dag_a is not for classification"),
            ("fgsm", {"images": 255 * images}, ValueError, r"must be finite and lie in \[0, 1\]"),
            (
                "fgsm",
                {"labels": labels[:3]},
                ValueError,
                "18 images need as many labels, and at least one; got 3",
            ),
            (
                "fgsm",
                {"images": images[:0], "labels": labels[:0]},
                ValueError,
                "0 images need as many labels",
            ),
            (
                "fgsm",
                {"network": lambda x: x.detach().mean((2, 3))},
                ModelError,
                "does not depend on its input",
            ),
        ],
    )
    def test_what_cannot_be(self, attack: str, keys: dict[str, Any], error: Any, message: str) -> None:
        asked = {"network": ByChannel(), "images": self.images, "labels": self.labels, **keys}
        with pytest.raises(error, match=message):
            mr.attack(attack=attack, **asked)


QUICK = {
    "analysis": {"resamples": 200},
    "crafting": {"selftest": False},
    "report": {"hardest": 1, "typical": 0},
}
PATIENTS = [case.patient_id for case in PHOTOS.cases]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mr.Run:
    return mr.evaluate(
        {name: ByChannel(seed).train() for seed, name in enumerate("abc")},
        arrays(PHOTOS),
        patients=PATIENTS,
        attacks=["fgsm", {"name": "pgd", "steps": 3}],
        out=tmp_path_factory.mktemp("run"),
        **QUICK,
    )


class TestEvaluate:
    def test_it_is_a_run_like_any_other(self, run: mr.Run) -> None:
        assert run.table1()["model"].to_list() == ["a", "b", "c"]
        cells = {*run.table2().select("perturbation", "source", "target").iter_rows()}
        assert cells == {(p, s, t) for p in ("fgsm", "pgd") for s in "abc" for t in "abc" if s != t}
        assert Path(run.report).is_file()
        assert run.results.unit == "patient"
        assert mr.Run.open(run.folder.url).table1().equals(run.table1())

    def test_an_attack_on_fewer_cases_stands_apart_and_changes_nothing_else(
        self, run: mr.Run, tmp_path: Path
    ) -> None:
        def asked(attacks: list[Any], folder: Path) -> mr.Run:
            networks = {name: ByChannel(seed).train() for seed, name in enumerate("abc")}
            data = {"data": arrays(PHOTOS), "patients": PATIENTS}
            return mr.evaluate(networks, **data, attacks=attacks, out=folder, **QUICK)

        slow = {"name": "deepfool", "cases": 15}
        few = asked(["fgsm", {"name": "pgd", "steps": 3}, slow], tmp_path / "few")
        for name in ("table1", "table2", "noise", "whitebox", "pairs", "ranking", "noise_control", "rounded"):
            one, other = (
                (Path(each.folder.url) / "tables" / f"{name}.csv").read_text() for each in (few, run)
            )
            assert one == other
        (part,) = few.results.fewer
        own = set(part.crafted["case_id"])
        assert len(own) == 15
        table = pl.read_csv(Path(few.folder.url) / "tables" / "fewer_cases.csv")
        assert table.select("target", "perturbation", "setting", "n_cases").rows() == [
            (model, "deepfool", "transferred", 15) for model in "abc"
        ]
        rows = few.results.fewer[0].rows.with_columns(right=pl.col("label") == pl.col("prediction"))
        assert set(rows["case_id"]) == own
        for row in table.rows(named=True):
            shown = rows.filter(target=row["target"])
            clean, attacked = (shown.filter(perturbation=each) for each in ("clean", "deepfool"))
            assert row["clean"] == pytest.approx(clean["right"].mean())
            assert row["attacked"] == pytest.approx(attacked["right"].mean())
            assert row["drop_points"] == pytest.approx(100 * (row["clean"] - row["attacked"]))
        success = pl.read_csv(Path(few.folder.url) / "tables" / "success.csv")
        assert dict(success.select("perturbation", "n_images").iter_rows()) == {
            "fgsm": 18,
            "pgd": 18,
            "deepfool": 15,
        }
        text = Path(few.report).read_text()
        assert "Crafted on fewer than the study" in text
        assert "deepfool: 15." in text

        whole = asked(["fgsm", {"name": "pgd", "steps": 3}, {**slow, "cases": 18}], tmp_path / "few")
        assert not whole.results.fewer
        assert "deepfool" in set(whole.table2()["perturbation"])

    def test_every_attack_on_fewer_cases_is_refused(self) -> None:
        networks = {name: ByChannel(seed) for seed, name in enumerate("abc")}
        with pytest.raises(StudyError, match=r"every attack has `cases`.*`cases: \{total: \.\.\.\}`"):
            mr.evaluate(networks, arrays(PHOTOS), attacks=[{"name": "fgsm", "cases": 15}], **QUICK)

    def test_clean_scores_are_those_of_the_networks(self, run: mr.Run) -> None:
        images, labels = arrays(PHOTOS)
        for seed, row in enumerate(run.table1().iter_rows(named=True)):
            right = ByChannel(seed)(images).argmax(1) == labels
            assert row["clean"] == pytest.approx(float(right.float().mean()))

    def test_finished_work_is_found_again(self, run: mr.Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def again(seed: int) -> mr.Run:
            networks = {name: ByChannel(n) for n, name in zip((0, 1, seed), "abc", strict=True)}
            return mr.evaluate(
                networks,
                arrays(PHOTOS),
                patients=PATIENTS,
                attacks=["fgsm", {"name": "pgd", "steps": 3}],
                out=run.folder.url,
                **QUICK,
            )

        made: list[str] = []
        write = ImageStore.write
        monkeypatch.setattr(ImageStore, "write", lambda store, *rest: made.append("") or write(store, *rest))
        assert again(2).table1().equals(run.table1())
        assert not made

    def test_a_single_network_is_attacked_directly(self) -> None:
        of = {
            "patients": [case.patient_id for case in SCANS.cases],
            "scans": [case.scan_id for case in SCANS.cases],
        }
        run = mr.evaluate({"only": ByBrightness()}, arrays(SCANS), **of, attacks=["dag_a"], **QUICK)
        folder = Path(run.folder.url)
        assert run.table2().is_empty()
        assert set(run.results.overlaps["role"]) == {"clean", "whitebox"}
        text = (folder / "report.html").read_text()
        assert "No attack was transferred" in text
        assert "Every attack, on the network itself" in text
        assert "Attack against noise" not in text
        assert text.index("crafted on the judged network itself") < text.index("What this does not say")
        del run
        gc.collect()
        assert not folder.exists()

    def test_functions_and_entries_of_a_study(self, tmp_path: Path) -> None:
        body = ByChannel()
        networks = {
            "function": lambda images: 2 * body(images),
            "entry": {"load": "tiny_cases:ByChannel", "input": {"mean": 0.1}},
        }
        run = mr.evaluate(networks, arrays(PHOTOS), attacks=["fgsm"], out=tmp_path / "run", **QUICK)
        assert run.results.unit == "image"
        assert run.table1()["model"].to_list() == ["function", "entry"]
        text = Path(run.report).read_text()
        assert "No two networks face the same attack" in text
        assert "not distinguishable from the highest" not in text
        assert "Framed" not in text

    def test_noise_of_ones_own_is_matched_to_every_attack(self, tmp_path: Path) -> None:
        @perturbation(role="noise", needs="nothing", budget="level")
        def brighter(
            model: Any, images: Tensor, labels: Tensor, *, level: float, power: float = 1.0
        ) -> Tensor:
            return (images + level * images**power).clamp(0, 1)

        networks = {name: ByChannel(seed).train() for seed, name in enumerate("ab")}
        asked = {"patients": PATIENTS, "attacks": ["fgsm"], "noise": {"load": brighter, "power": 0.5}}
        run = mr.evaluate(networks, arrays(PHOTOS), **asked, out=tmp_path / "run", **QUICK)
        assert run.table1()["noise"].null_count() == 0
        reached = matching(run.results)
        assert set(reached["perturbation"]) == {"brighter@fgsm"}
        assert set(reached["n_missed"]) == {0}
        again = mr.Run.open(tmp_path / "run")  # whose function nobody can import
        assert again.results.noise == ("brighter",)
        assert again.table1().equals(run.table1())

    def test_a_network_behind_a_service_is_attacked_by_what_needs_no_gradient(self, tmp_path: Path) -> None:
        whole = ByChannel()

        def service(images: Tensor) -> np.ndarray[Any, Any]:
            with torch.no_grad():
                return whole(images.detach()).numpy()

        attacks = [
            {"name": "square", "eps": 12 / 255, "steps": 20},
            {"name": "hopskipjump", "steps": 1, "draws": 5},
        ]
        networks = {"plain": ByChannel(3), "service": mr.Network(lambda x: torch.from_numpy(service(x)))}
        run = mr.evaluate(
            networks,
            arrays(PHOTOS),
            patients=PATIENTS,
            attacks=attacks,
            noise={},
            out=tmp_path / "run",
            **QUICK,
        )
        crafted = run.results.crafted.filter(source="service")
        assert set(crafted["role"]) == {"whitebox"}
        assert set(crafted["perturbation"]) == {"square", "hopskipjump"}
        mean = crafted.group_by("perturbation").agg(pl.col("fooled_source", "steps").mean())
        assert (mean["fooled_source"] > 0).all()
        assert (mean["steps"] > 1).all()

    def test_networks_that_only_decide_are_attacked_by_decisions_and_say_nothing_of_confidence(
        self, tmp_path: Path
    ) -> None:
        def decided(seed: int) -> mr.Network:
            network = ByChannel(seed)
            return mr.Network(lambda images: network(images).argmax(1).numpy(), kind="decisions")

        networks = {"plain": ByChannel(3), **{f"decided-{seed}": decided(seed) for seed in (0, 1)}}
        asked = {"patients": PATIENTS, **QUICK}
        attack = {"name": "rays", "eps": 12 / 255, "steps": 60}
        run = mr.evaluate(networks, arrays(PHOTOS), attacks=[attack], out=tmp_path / "run", **asked)
        assert run.warnings == ()
        whole = pl.read_csv(tmp_path / "run" / "tables" / "whitebox.csv")
        assert set(whole["perturbation"]) == {"rays", "gaussian@rays"}
        clean = dict(run.table1().select("model", "clean").iter_rows())
        attacked = dict(whole.filter(perturbation="rays").select("target", "score").iter_rows())
        assert all(attacked[name] < clean[name] for name in networks)
        images, labels = arrays(PHOTOS)
        right = ByChannel(0)(images).argmax(1) == labels
        assert clean["decided-0"] == pytest.approx(right.float().mean().item())
        quality = pl.read_csv(tmp_path / "run" / "tables" / "quality.csv").filter(perturbation="clean")
        known = quality.select("target", pl.col("macro_f1", "brier", "macro_auroc").is_not_null())
        assert known.rows() == [
            (name, True, name == "plain", name == "plain") for name in ("plain", "decided-0", "decided-1")
        ]
        selective = pl.read_csv(tmp_path / "run" / "tables" / "selective.csv")
        assert set(selective["target"]) == {"plain"}
        page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
        assert "Attacks were crafted on the network itself." in page
        assert "those crafted on it need none" in page
        # Another service behind the same function, in the same folder, is another network.
        others = {**networks, "decided-0": decided(2)}
        again = mr.evaluate(others, arrays(PHOTOS), attacks=[attack], out=tmp_path / "run", **asked)
        digests = [
            {name: each["digest"] for name, each in one.results.record["networks"].items()}
            for one in (run, again)
        ]
        differ = {name for name, digest in digests[0].items() if digests[1][name] != digest}
        assert differ == {"decided-0-target-s0"}
        decides = {name: networks[name] for name in ("decided-0", "decided-1")}
        with pytest.raises(StudyError, match=r"square asks for scores, .* only decisions of decided-0, dec"):
            mr.evaluate(decides, arrays(PHOTOS), attacks=["square"], out=tmp_path / "square", **asked)
        asked["analysis"] = {"score": "auroc", "resamples": 100}
        with pytest.raises(StudyError, match=r"AUROC is of probabilities, and decided-0 gives .* accuracy"):
            mr.evaluate(decides, arrays(PHOTOS), attacks=[attack], out=tmp_path / "auroc", **asked)

    def test_runs_without_a_control_or_with_code_of_their_own_are_compared(
        self, run: mr.Run, tmp_path: Path
    ) -> None:
        def lighter(model: Any, images: Tensor, labels: Tensor, *, eps: float = 0.02) -> Tensor:
            return (images + eps).clamp(0, 1)

        networks = {name: ByChannel(seed) for seed, name in enumerate("abc")}
        # The own attack comes first, and has no `name`.
        asked = {"patients": PATIENTS, "attacks": [lighter, "fgsm"], "noise": {}}
        quiet = mr.evaluate(networks, arrays(PHOTOS), **asked, out=tmp_path / "quiet", **QUICK)
        assert quiet.table1()["noise"].null_count() == 3
        text = Path(quiet.report).read_text()
        assert "Attack against noise" not in text
        assert "Noise is the control" not in text
        compared = mr.compare({"run": run.folder.url, "quiet": tmp_path / "quiet"}, tmp_path / "compared")
        assert "The runs share no noise, so there is no noise score." in compared.limits
        assert "Not compared, and left out of the noise of run: gaussian." in compared.limits

    @pytest.mark.parametrize(
        ("keys", "error", "message"),
        [
            ({"noise": "fgsm"}, StudyError, "noise.fgsm: 'fgsm' is not declared to be noise"),
            ({"noise": lambda x: x}, StudyError, r"noise.*\.load: .* must be a function \(model, images"),
            ({"networks": {}}, StudyError, "at least one network"),
            ({"networks": {"a": 3}}, StudyError, r"networks\.a: must be a module, .* got int"),
            ({"networks": {"a b": ByChannel()}}, StudyError, "a name may hold letters"),
            (
                {"networks": {"a": nn.Flatten()}},
                ModelError,
                r"models\.a: It returns 768 classes, but the data have",
            ),
            ({"surrogates": "all"}, StudyError, "must be networks, 'others' or 'none', got 'all'"),
            ({"attacks": ["fgsn"]}, StudyError, "Did you mean 'fgsm'"),
            ({"attacks": []}, StudyError, "at least one attack"),
            ({"atacks": ["pgd"]}, StudyError, "Unknown key 'atacks'"),
            ({"data": 3}, DataError, "got int"),
            ({"device": "abacus"}, RunError, "'abacus' cannot be used here"),
        ],
    )
    def test_what_cannot_be(self, keys: dict[str, Any], error: Any, message: str, tmp_path: Path) -> None:
        asked = {"networks": {"a": ByChannel()}, "data": arrays(PHOTOS), **keys}
        with pytest.raises(error, match=message):
            mr.evaluate(**asked, out=tmp_path / "run")


class TestFindings:
    """Several findings per image, from arrays to a report."""

    def test_arrays_are_enough(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        labels = (rng.random((40, 3)) < 0.4).astype(int)
        labels[3, 1] = -1
        images = rng.uniform(0.3, 0.5, (40, 3, 16, 16)) + 0.08 * (labels == 1)[:, :, None, None]

        class Bright(torch.nn.Module):
            def __init__(self, rows: int) -> None:
                super().__init__()
                self.rows = rows
                self.threshold = torch.nn.Parameter(torch.full((3,), 0.44))

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                return 40 * (images[:, :, : self.rows].mean((2, 3)) - self.threshold)

        run = mr.evaluate(
            {"one": Bright(16), "two": Bright(8)},
            (images.astype(np.float32), labels),
            patients=[number // 2 for number in range(40)],
            classes=["effusion", "mass", "nodule"],
            attacks=[{"name": "fgsm", "eps": 0.2}, {"name": "pgd", "eps": 0.2, "finding": "mass"}],
            out=tmp_path / "run",
            crafting={"selftest": False},
            analysis={"resamples": 100},
        )
        rows = run.results.rows.filter(perturbation="clean", target="one")
        assert rows.height == 3 * 40 - 1
        table1 = run.table1()
        assert (table1["clean"] == 1).all()  # of the area under the curve, whatever the threshold
        assert (table1["adversarial"] < 0.7).all()
        table = pl.read_csv(tmp_path / "run" / "tables" / "findings.csv")
        found = table.filter(perturbation="pgd", target="one")
        scores = dict(found.select("finding", "score").iter_rows())
        assert scores["mass"] < 0.5 < min(scores["effusion"], scores["nodule"])
        crafted = run.results.crafted.filter(perturbation="pgd", source="one")
        assert set(crafted["fooled_source"].drop_nulls()) <= {0.0, 1.0}
        assert crafted["fooled_source"].null_count() == 1  # where it is not known whether there is a mass
        html = Path(run.report).read_text(encoding="utf-8")
        assert "Which classes or findings break?" in html

    def test_names_of_findings_are_checked_before_any_work(self) -> None:
        images = np.full((4, 3, 16, 16), 0.5, np.float32)
        labels = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
        attacks = [{"name": "pgd", "finding": "mas"}]
        with pytest.raises(StudyError, match=r"pgd\.finding: Unknown finding 'mas'. Did you mean 'mass'\?"):
            mr.evaluate({"one": lambda x: x}, (images, labels), classes=["edema", "mass"], attacks=attacks)
