"""Networks and images at hand: `mr.attack`, `mr.evaluate`."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import medrobust as mr
from medrobust.errors import ModelError, StudyError
from medrobust.perturbations import fgsm
from tiny_cases import ByBrightness, ByChannel, photos, scans

PHOTOS, SCANS = photos(18), scans()


def arrays(dataset: Any) -> tuple[Tensor, Tensor]:
    samples = [dataset.read(case) for case in dataset.cases]
    return tuple(torch.from_numpy(np.stack(values)) for values in zip(*samples, strict=True))


class TestAttack:
    images, labels = arrays(PHOTOS)

    def test_it_does_what_the_function_does_and_measures_it(self) -> None:
        network = ByChannel().train()
        attacked = mr.attack(network, self.images, self.labels, "fgsm", eps=16 / 255, batch_size=5)
        expected = fgsm(network, self.images, self.labels, eps=16 / 255)
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
            (mr.Network(lambda images: {"aux": None, "scores": ByChannel()(images)}, output="scores"), labels),
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
        def invert(model: Any, images: Tensor, labels: Tensor, *, support: Any = None, rngs: Any = None) -> Tensor:
            return 1 - images

        attacked = mr.attack(ByChannel(), self.images, self.labels, invert)
        torch.testing.assert_close(attacked.images, 1 - self.images)

    @pytest.mark.parametrize(
        ("attack", "keys", "error", "message"),
        [
            ("pdg", {}, StudyError, r"Unknown perturbation 'pdg'\. Did you mean 'pgd'"),
            ("pgd", {"epss": 1}, StudyError, "Did you mean 'eps'"),
            ("dag_a", {}, StudyError, "dag_a is not for classification"),
            ("fgsm", {"images": 255 * images}, ValueError, r"must be finite and lie in \[0, 1\]"),
            ("fgsm", {"labels": labels[:3]}, ValueError, "18 images need as many labels, got 3"),
            ("fgsm", {"images": images[:0], "labels": labels[:0]}, ValueError, "at least one image"),
            ("fgsm", {"network": nn.Flatten()}, ModelError, "network"),
        ],
    )
    def test_what_cannot_be(self, attack: str, keys: dict[str, Any], error: Any, message: str) -> None:
        asked = {"network": ByChannel(), "images": self.images, "labels": self.labels, **keys}
        with pytest.raises(error, match=message):
            mr.attack(attack=attack, **asked)


SMALL = {"seed": 0, "analysis": {"resamples": 200}, "crafting": {"selftest": False}}


class TestEvaluate:
    @pytest.fixture(scope="class")
    def run(self, tmp_path_factory: pytest.TempPathFactory) -> mr.Run:
        patients = [case.patient_id for case in PHOTOS.cases]
        networks = {name: ByChannel(seed) for seed, name in enumerate("abc")}
        out = tmp_path_factory.mktemp("run")
        return mr.evaluate(
            networks, arrays(PHOTOS), patients=patients, attacks=["fgsm", {"name": "pgd", "steps": 3}], out=out, **SMALL
        )

    def test_it_is_a_run_like_any_other(self, run: mr.Run) -> None:
        assert run.table1()["model"].to_list() == ["a", "b", "c"]
        table = run.table2()
        assert {*zip(table["source"], table["target"], strict=True)} == {
            (source, target) for source in "abc" for target in "abc" if source != target
        }
        assert Path(run.report).is_file()
        assert run.results.unit == "patient"

    def test_clean_scores_are_those_of_the_networks(self, run: mr.Run) -> None:
        images, labels = arrays(PHOTOS)
        for row in run.table1().iter_rows(named=True):
            network = ByChannel("abc".index(row["model"]))
            assert row["clean"] == pytest.approx(float((network(images).argmax(1) == labels).float().mean()))
