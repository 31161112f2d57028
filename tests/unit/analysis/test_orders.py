"""The verdict's sentences, word for word, and those about orders and noise."""

import polars as pl
import pytest

import made_rows
from medrobust.analysis.verdict import (
    clean_sentence,
    drop_sentence,
    kendall_tau,
    noise_sentences,
    tau_sentences,
    verdict,
)

PAIR = {"first": "a", "second": "b", "better": "a"}


def brains(levels: dict[str, tuple[int, int]], patients: int = 10, spread: int = 40):
    """Dice in 1/10,000 of each network, clean and under attack; noise costs 100."""

    def counts(cell, scan, structure):
        clean, attacked = levels[cell.target]
        level = clean if not cell.source else max(clean - 100, 0) if "@" in cell.perturbation else attacked
        offset = (7 * int(scan[1:]) + 3 * "abcdef".index(cell.target)) % 11 - 5
        return 10_000, 10_000, level + spread * offset // 5

    scans = {f"p{number:02}": [f"s{number}"] for number in range(patients)}
    return made_rows.segmentation(counts, scans, models=tuple(levels), attacks=(made_rows.Attack("dag_a"),))


GOLDEN = {
    "ranked": (
        {"a": (9000, 8000), "b": (9000, 7000)},
        {},
        """
        a is more robust than b against these transferred attacks, for these trained weights: mean adversarial
        Dice +0.100 [+0.097, +0.104], p = 0.002 (Holm). But their drops from the clean score do not differ
        clearly (a - b: -10.0 points [-44.5, +22.4]).
        Differences on clean images: a - b +0.000 [-0.003, +0.004]. No pair is called equal: that takes at
        least 29 patients, because with fewer a failure that strikes one in ten could go unseen.
        Attacks do more harm than noise of the same similarity in 2 of 2 pairs of network and attack, by 9.0
        to 19.0 points (Holm).
        Intervals and tests are over 10 patients; intervals are not adjusted for multiple comparisons.
        A failure that affects fewer than 26 % of all patients may be absent from this sample, and no interval
        accounts for it.
        """,
    ),
    "not distinguishable": (
        {"a": (9000, 8000), "b": (9000, 8000)},
        {"spread": 200},
        """
        a and b cannot be distinguished under attack (p = 0.877, Holm). Seeing a difference of 0.02 with 80 %
        power takes about 11 patients.
        Differences on clean images: a - b +0.001 [-0.014, +0.018]. No pair is called equal: that takes at
        least 29 patients, because with fewer a failure that strikes one in ten could go unseen.
        Claimed from the mean scores under attack alone, superiority would be false with a probability above
        5 % in 1 of 1 pair: a over b 43 %.
        Attacks do more harm than noise of the same similarity in 2 of 2 pairs of network and attack, by 9.0
        points (Holm).
        Intervals and tests are over 10 patients; intervals are not adjusted for multiple comparisons.
        A failure that affects fewer than 26 % of all patients may be absent from this sample, and no interval
        accounts for it.
        """,
    ),
    "equally good": (
        {"a": (9000, 8000), "b": (9000, 8000)},
        {"patients": 30},
        """
        a and b cannot be distinguished under attack (p = 0.980, Holm). Seeing a difference of 0.02 with 80 %
        power takes about 6 patients.
        a and b are equally good on clean images (TOST within 0.02, p = 0.042, Holm).
        Claimed from the mean scores under attack alone, superiority would be false with a probability above
        5 % in 1 of 1 pair: b over a 47 %.
        Attacks do more harm than noise of the same similarity in 2 of 2 pairs of network and attack, by 9.0
        points (Holm).
        Intervals and tests are over 30 patients; intervals are not adjusted for multiple comparisons.
        A failure that affects fewer than 9.5 % of all patients may be absent from this sample, and no
        interval accounts for it.
        """,
    ),
    "too few patients": (
        {"a": (9000, 8000), "b": (9000, 7000)},
        {"patients": 4},
        """
        Too few patients to rank these networks: with 4 patients no outcome of the exact test could be
        significant; at least 6 are needed.
        Differences on clean images: a - b -0.000 [-0.007, +0.007]. No pair is called equal: that takes at
        least 29 patients, because with fewer a failure that strikes one in ten could go unseen.
        Attacks do more harm than noise of the same similarity in 0 of 2 pairs of network and attack; 2
        cannot be distinguished from noise (Holm).
        Intervals and tests are over 4 patients; intervals are not adjusted for multiple comparisons.
        A failure that affects fewer than 53 % of all patients may be absent from this sample, and no interval
        accounts for it.
        """,
    ),
    "not ranked": (
        {"a": (9000, 8000), "b": (0, 0)},
        {"spread": 0},
        """
        Not ranked, because they do no better on clean images than always answering with the majority
        class: b.
        Differences on clean images: a - b +0.900 [+0.437, +0.997]. No pair is called equal: that takes at
        least 29 patients, because with fewer a failure that strikes one in ten could go unseen.
        Attacks do more harm than noise of the same similarity in 1 of 2 pairs of network and attack, by 9.0
        points; 1 cannot be distinguished from noise (Holm).
        Intervals and tests are over 10 patients; intervals are not adjusted for multiple comparisons.
        A failure that affects fewer than 26 % of all patients may be absent from this sample, and no interval
        accounts for it.
        """,
    ),
    "the lead is that of the clean score": (
        {"a": (9000, 8000), "b": (8500, 7500)},
        {"spread": 5},
        """
        a is more robust than b against these transferred attacks, for these trained weights: mean adversarial
        Dice +0.050 [+0.050, +0.050], p = 0.002 (Holm). But their drops from the clean score do not differ
        clearly (a - b: +0.0 points [-30.8, +30.8]).
        Differences on clean images: a - b +0.050 [+0.050, +0.050]. No pair is called equal: that takes at
        least 29 patients, because with fewer a failure that strikes one in ten could go unseen.
        Attacks do more harm than noise of the same similarity in 2 of 2 pairs of network and attack, by 9.0
        points (Holm).
        Intervals and tests are over 10 patients; intervals are not adjusted for multiple comparisons.
        A failure that affects fewer than 26 % of all patients may be absent from this sample, and no interval
        accounts for it.
        """,
    ),
    "clean and adversarial order disagree": (
        {"a": (8500, 8000), "b": (9500, 7000)},
        {},
        """
        a is more robust than b against these transferred attacks, for these trained weights: mean adversarial
        Dice +0.100 [+0.097, +0.104], p = 0.002 (Holm). On clean images b does better, by +0.100
        [+0.096, +0.103]: the orders by clean and by adversarial score differ. But their drops from the clean
        score do not differ clearly (a - b: -20.0 points [-55.6, +15.5]).
        Differences on clean images: a - b -0.100 [-0.103, -0.096]. No pair is called equal: that takes at
        least 29 patients, because with fewer a failure that strikes one in ten could go unseen.
        Attacks do more harm than noise of the same similarity in 2 of 2 pairs of network and attack, by 4.0
        to 24.0 points (Holm).
        Intervals and tests are over 10 patients; intervals are not adjusted for multiple comparisons.
        A failure that affects fewer than 26 % of all patients may be absent from this sample, and no interval
        accounts for it.
        """,
    ),
}
ALWAYS = """
    The tests flip the signs of differences: they ask whether differences are symmetric about 0, and where
    the mean is 0 but the distribution is skewed they reject more often than their level.
    Nothing follows for architectures in general: that takes at least 3 target and 2 surrogate seeds of each
    network.
"""


@pytest.mark.parametrize("name", GOLDEN)
def test_the_verdict_word_for_word(name: str) -> None:
    levels, options, expected = GOLDEN[name]
    assert " ".join(verdict(brains(levels, **options)).sentences).split() == (expected + ALWAYS).split()


@pytest.mark.parametrize(
    ("better", "value", "low", "high", "said"),
    [
        *(
            ("a", -0.1, -0.2, -0.05, "b does better, by +0.100 [+0.050, +0.200]"),
            ("a", 0.1, 0.0, 0.2, ""),
        ),
        *(("b", 0.1, 0.05, 0.2, "a does better, by +0.100"), ("b", -0.1, -0.2, -0.05, "")),
        *(("a", -0.1, -0.3, 0.1, ""), ("a", -0.1, None, None, "")),
    ],
)
def test_that_the_other_is_better_on_clean_images_is_said_where_it_is_sure(better, value, low, high, said):
    row = PAIR | {"better": better, "clean_difference": value}
    sentence = clean_sentence(row | {"clean_difference_low": low, "clean_difference_high": high})
    assert said in sentence
    assert bool(said) == bool(sentence)


@pytest.mark.parametrize(
    ("better", "value", "low", "high", "said"),
    [
        ("a", -3.0, -4.0, -2.0, ""),
        ("b", 3.0, 2.0, 4.0, ""),
        ("a", -0.2, -1.1, 0.8, " (a - b: -0.2 points [-1.1, +0.8])."),
        ("b", 0.2, -0.8, 1.1, " (b - a: -0.2 points [-1.1, +0.8])."),
        ("a", 3.0, 2.0, 4.0, " By the drop from the clean score, b comes first: the two orders differ."),
        ("b", -0.2, -1.1, 0.8, ", a comes first, though not clearly: the two orders differ."),
    ],
)
def test_a_lead_that_the_drops_do_not_confirm_is_called_so(better, value, low, high, said):
    row = PAIR | {"better": better, "drop_difference": value}
    sentence = drop_sentence(row | {"drop_difference_low": low, "drop_difference_high": high})
    assert sentence.endswith(said)
    assert bool(said) == bool(sentence)


def test_tau_needs_five_networks_and_is_said():
    assert kendall_tau([1, 2, 3, 4], [1, 2, 3, 4]) is None
    tau = kendall_tau([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])
    assert tau == pytest.approx(-1)
    assert kendall_tau([1, 1, 1, 1, 1], [5, 4, 3, 2, 1]) is None
    assert tau_sentences(None) == []
    levels = {name: (9000 - 100 * place, 8000 + 100 * place) for place, name in enumerate("abcde")}
    assert (
        "Kendall's tau between the orders of all networks by clean and by adversarial score is -1.00 (1: the"
        " same order, 0: unrelated, -1: reversed)."
    ) in verdict(brains(levels)).sentences


def test_noise_that_does_more_harm_and_what_is_unknown_are_counted():
    control = pl.DataFrame({"extra_drop_points": [3.0, -2.0, 0.4, 8.0], "p_holm": [0.01, 0.02, 0.5, None]})
    assert noise_sentences(control, 0.05) == [
        "Attacks do more harm than noise of the same similarity in 1 of 3 pairs of network and attack, by 3.0"
        " points; noise does more harm in 1, by 2.0 points; 1 cannot be distinguished from noise (Holm)."
    ]
    assert noise_sentences(control.clear(), 0.05) == []
