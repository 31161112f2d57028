"""Networks that are told more of a case than its image: constants, and what the data know of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

import medrobust as mr
from medrobust.core import Dataset, Task
from medrobust.data import in_memory
from medrobust.errors import ModelError, StudyError
from medrobust.models import Network, check_network
from medrobust.perturbations import perturb, request, solve_budget
from medrobust.perturbations.entry import Tally
from medrobust.perturbations.selftest import selftest
from medrobust.rng import generator

pytestmark = pytest.mark.usefixtures("blank_figures")

N, SIDE = 9, 12
META = [0.5, {"of": "age", "divide": 100, "unknown": 50}, {"of": "sex", "equals": ["f", "female"]}]
KNOWN = [{"age": 10 * n, "sex": "f" if n % 3 else "m"} for n in range(N)]
KNOWN[2] = {"age": "20"}  # as a table has it, and a sex that is not known
ROWS = torch.tensor([[0.5, n / 10, float(n % 3 > 0)] for n in range(N)])
ROWS[2, 2] = 0


class WithMeta(nn.Module):
    """Metadata turn and shift what it sees, so that the gradient differs from case to case too."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.seen = nn.Conv2d(3, 8, 3)
            self.turned, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, images: Tensor, meta: Tensor) -> Tensor:
        shown = self.seen(images).tanh().mean((2, 3))
        return 20 * self.last(shown * 4 * self.turned(meta).tanh())


BODY = WithMeta().eval()


def network(**said: object) -> Network:
    return Network(BODY, further={"meta": META}, **said).eval()


def images() -> tuple[Tensor, Tensor]:
    shown = torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return shown, BODY(shown, ROWS).argmax(1)


def rngs() -> list[np.random.Generator]:
    return [generator(0, "test", place) for place in range(N)]


def test_a_case_has_its_own_numbers_and_constants():
    shown, _ = images()
    told = network().told(KNOWN)
    torch.testing.assert_close(told.rows["meta"], ROWS)
    torch.testing.assert_close(told(shown), BODY(shown, ROWS))
    torch.testing.assert_close(told.of([4, 2])(shown[[4, 2]]), BODY(shown[[4, 2]], ROWS[[4, 2]]))
    torch.testing.assert_close(told.of([4])(shown), BODY(shown, ROWS[[4]].expand(N, -1)))
    usual = torch.tensor([[0.5, 0.5, 0.0]]).expand(N, -1)
    torch.testing.assert_close(network()(shown), BODY(shown, usual))
    seen = told.features(shown)
    torch.testing.assert_close(20 * BODY.last(seen), told(shown), rtol=1e-4, atol=1e-4)


def test_windows_are_told_too():
    class Maps(nn.Module):
        def forward(self, images: Tensor, meta: Tensor) -> Tensor:
            return images * meta[:, 1, None, None, None]

    shown, _ = images()
    windows = Network(Maps(), further={"meta": META}, window={"size": 8}).told(KNOWN)
    torch.testing.assert_close(windows(shown), shown * ROWS[:, 1, None, None, None])


@pytest.mark.parametrize("name", ["fgsm", "pgd", "deepfool", "saliency_map"])
def test_every_image_is_attacked_with_what_is_known_of_it(name):
    """As one by one, whichever images an attack goes on with and in whatever number."""
    shown, labels = images()
    asked, told, tally = request({"name": name}, Task.CLASSIFICATION), network().told(KNOWN), Tally()
    if asked.unsolved:
        asked = asked.with_budget(8 / 255)
    made = perturb(asked, told, shown, labels, rngs=rngs(), tally=tally)
    for place, rng in enumerate(rngs()):
        one, alone = slice(place, place + 1), Tally()

        def own(some: Tensor, place: int = place) -> Tensor:
            return BODY(some, ROWS[place].expand(len(some), -1))

        expected = perturb(asked, own, shown[one], labels[one], rngs=[rng], tally=alone)
        torch.testing.assert_close(made[one], expected, rtol=0, atol=1e-6)
        if tally.steps is not None and alone.steps is not None:
            assert tally.steps[place] == alone.steps[0]


def test_images_of_which_the_same_is_known_are_attacked_together():
    assert network().told([KNOWN[1], KNOWN[4], KNOWN[1]]).alike() == [[0, 2], [1]]
    with pytest.raises(ModelError, match="knows more of each of 9 images, and is shown 2"):
        network().told(KNOWN)(images()[0][:2])


def test_budgets_are_solved_over_batches():
    shown, labels = images()
    asked = request({"name": "pgd", "eps": {"ssim": 0.9}, "steps": 2}, Task.CLASSIFICATION)
    batches = [(shown[part], labels[part], None, rngs()[part]) for part in (slice(0, 5), slice(5, N))]
    whole = [(shown, labels, None, rngs())]
    told = network().told(KNOWN)
    assert solve_budget(asked, told, batches) == pytest.approx(solve_budget(asked, told, whole), rel=1e-3)


def test_it_can_be_tested():
    shown, labels = images()
    asked = request({"name": "pgd", "eps": 8 / 255}, Task.CLASSIFICATION)
    checks = {check.name: check for check in selftest(asked, network().told(KNOWN), shown, labels)}
    assert checks["deterministic"].passed
    assert not [check for check in checks.values() if check.passed is False]


def test_what_is_missing_or_not_there_is_said():
    shown, _ = images()
    said = {"task": Task.CLASSIFICATION, "classes": 2, "images": shown}
    check_network(network(), "mine", **said)
    with pytest.raises(ModelError, match=r"takes `meta` besides the image.*further: \{meta: \[\.\.\.\]\}"):
        check_network(Network(BODY).eval(), "mine", **said)
    with pytest.raises(ModelError, match=r"input\.further: Unknown argument 'mata'\. Did you mean 'meta'"):
        check_network(Network(BODY, further={"meta": META, "mata": [1.0]}).eval(), "mine", **said)
    with pytest.raises(ModelError, match="could not convert string to float: 'old'"):
        network().told([{"age": "old"}])


def photos(known: dict[str, dict[str, object]]) -> Dataset:
    shown, labels = images()
    return replace(in_memory(shown.numpy(), labels.numpy()), attributes=known)


def test_a_study_tells_it_of_every_case(tmp_path: Path):
    shown, _ = images()
    dataset = photos({})
    scans = [case.scan_id for case in dataset.cases]
    dataset = photos(dict(zip(scans, KNOWN, strict=True)))
    made = {}
    for batch in (1, 4):
        run = mr.evaluate(
            {"mine": network()}, dataset,
            attacks=[{"name": "fgsm", "eps": 2 / 255}, {"name": "pgd", "eps": 0.3}],
            surrogates="none", out=tmp_path / str(batch), device="cpu", crafting={"batch_size": batch},
        )  # fmt: skip
        folder = tmp_path / str(batch) / "results"
        rows = pl.read_parquet(folder / "predictions.parquet")
        made[batch] = rows.sort("perturbation", "case_id")
        clean = rows.filter(perturbation="clean").sort("case_id")
        expected = BODY(shown, ROWS).softmax(1).detach()
        torch.testing.assert_close(
            torch.tensor(clean["probabilities"].to_list()), expected, rtol=1e-4, atol=1e-4, check_dtype=False
        )
        assert run.table1()["clean"][0] == 1
    assert made[1]["prediction"].equals(made[4]["prediction"])
    crafted = pl.read_parquet(folder / "crafted.parquet")
    assert crafted.filter(perturbation="pgd")["fooled_source"].mean() > 0.3


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"agee": 3}, r"input\.further: Unknown attribute 'age'\. Did you mean 'agee'"),
        ({"age": "old", "sex": "m"}, "the age of '.*' is 'old', which is no number"),
    ],
)
def test_data_that_do_not_know_it_are_refused(known, message, tmp_path: Path):
    scans = [case.scan_id for case in photos({}).cases]
    dataset = photos(dict.fromkeys(scans, known))
    with pytest.raises(StudyError, match=message):
        mr.evaluate({"mine": network()}, dataset, surrogates="none", out=tmp_path / "run", device="cpu")
