"""The time left of a run, on invented clocks: plans are wrong, machines get busy and idle again."""

from dataclasses import replace

import pytest
from rich.console import Console

from medrobust.running.jobs import Job
from medrobust.running.progress import Pace, display, duration, seconds_left

TRAIN = Job(
    kind="train",
    name="unet",
    title="train unet",
    seconds=600.0,
    disk=0,
    pieces=1,
    finished=set,
    open=lambda: lambda piece, progress: progress(1.0, ""),
)
CRAFT = replace(TRAIN, kind="craft", name="fgsm", seconds=300.0, pieces=10)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_before_anything_is_measured_the_plan_counts():
    assert seconds_left({"train": 600.0, "craft": 300.0}, {}) == 900


@pytest.mark.parametrize("real", [1 / 33, 1 / 5, 1, 3])
def test_a_plan_that_was_wrong_throughout_is_put_right(real):
    """Once 5 h 30 were announced for 10 minutes: after 1/10 of the work, the rest is known to a quarter."""
    training, crafting = replace(TRAIN, seconds=13_200.0), replace(CRAFT, seconds=6_600.0)
    clock = Clock()
    with display(Console(quiet=True), [training, crafting], clock) as shown:
        for step in range(1, 21):
            clock.now = real * 1_980 * step / 20
            shown.advance(training, 0.15 * step / 20)
    assert shown.seconds_left == pytest.approx(real * 17_820, rel=0.25)


def test_a_kind_that_was_planned_too_long_does_not_shorten_the_others():
    paces = {"train": Pace(600.0, 60.0), "craft": Pace(100.0, 100.0)}
    only_craft = seconds_left({"train": 0.0, "craft": 200.0}, paces)
    assert only_craft == pytest.approx(200, rel=0.15)


def test_a_kind_that_has_not_begun_goes_at_the_pace_of_all_others():
    assert seconds_left({"craft": 300.0}, {"train": Pace(600.0, 300.0)}) == pytest.approx(150, rel=0.05)


def test_a_moment_is_not_believed():
    assert seconds_left({"craft": 300.0}, {"craft": Pace(0.001, 0.1)}) < 600


def test_a_busy_start_is_forgotten():
    clock, job = Clock(), replace(TRAIN, seconds=6000.0)
    with display(Console(quiet=True), [job], clock) as shown:
        for second in range(1, 601):  # ten times as slow as planned at first, as planned from then on
            clock.now = second
            shown.advance(job, (0.1 * min(second, 120) + max(0, second - 120)) / 6000)
    truth = 6000 - 12 - 480
    assert shown.seconds_left == pytest.approx(truth, rel=0.1)


def test_work_that_takes_turns_is_timed_by_kind():
    """On a cluster, pieces of several jobs end in any order."""
    clock, other = Clock(), replace(CRAFT, name="pgd")
    with display(Console(quiet=True), [CRAFT, other], clock) as shown:
        for piece in range(1, 6):
            for job in (CRAFT, other):
                clock.now += 60
                shown.advance(job, piece)
    assert shown.seconds_left == pytest.approx(600, rel=0.1)


def test_the_bar_ends_where_the_work_does(capsys):
    clock = Clock()
    with display(Console(force_terminal=True, width=160), [TRAIN], clock) as shown:
        shown.advance(TRAIN, 0, title="[1/1] train unet")
        clock.now += 300
        shown.advance(TRAIN, 0.5, note="epoch 2/3")
        halfway = shown.seconds_left
        clock.now += 300
        shown.advance(TRAIN, 1)
        shown.end()
    printed = capsys.readouterr().out
    assert halfway == pytest.approx(300, rel=0.05)
    assert shown.seconds_left == 0
    assert "100%" in printed
    assert "0 s left" in printed


def test_sentences_are_said_once(capsys):
    with display(Console(), [TRAIN]) as shown:
        shown.say_once("Memory did not suffice.")
        shown.say_once("Memory did not suffice.")
    assert capsys.readouterr().out.count("Memory did not suffice.") == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600, "60 min"), (19_800, "5 h 30 min"), (4e5, "5 days")],
)
def test_durations_are_said_as_people_do(seconds, said):
    assert duration(seconds) == said
