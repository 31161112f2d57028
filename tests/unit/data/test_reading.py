"""Reading everything in parallel before the work begins."""

import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import made_data
from medrobust.data import reading
from medrobust.data.reading import Room, in_threads, part_of, read_all, threads
from medrobust.errors import DataError


def test_every_case_is_read_once_and_progress_is_told(monkeypatch):
    monkeypatch.setattr(reading, "threads", lambda: 2)
    dataset, read, told = made_data.stripes(40), [], []

    def note(case):
        read.append(case.case_id)
        return dataset.read(case)

    read_all(replace(dataset, read=note), dataset.cases, lambda done, note: told.append((done, note)))
    assert sorted(read) == [case.case_id for case in dataset.cases]
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert told[-1] == (1, "image 40 of 40")


def test_the_first_damaged_case_stops_it(monkeypatch):
    monkeypatch.setattr(reading, "threads", lambda: 2)
    dataset, read = made_data.stripes(400), []

    def fails(case):
        read.append(case)
        if case.case_id == "c03":
            raise DataError("c03 is damaged")
        time.sleep(0.002)
        return dataset.read(case)

    with pytest.raises(DataError, match="c03 is damaged"):
        read_all(replace(dataset, read=fails), dataset.cases)
    assert len(read) < 200


def test_samples_are_let_go(monkeypatch):
    """Memory does not grow with the number of cases, however long the first takes."""
    monkeypatch.setattr(reading, "threads", lambda: 2)
    dataset, alive, most = made_data.stripes(200), weakref.WeakSet(), []

    def tracked(case):
        if case.case_id == "c00":
            time.sleep(0.2)
        image = np.zeros(1).view(Tracked)
        alive.add(image)
        most.append(len(alive))
        return image

    read_all(replace(dataset, read=tracked), dataset.cases)
    assert (len(most), max(most) <= 4) == (200, True)


class Tracked(np.ndarray):
    __hash__ = object.__hash__


def test_there_is_a_thread():
    assert threads() >= 1


def test_work_in_threads_keeps_its_order_and_tells_how_far_it_is():
    told = []

    def halved(number):
        time.sleep((number % 3) / 1000)
        return number / 2

    progress = part_of(lambda done, note: told.append((done, note)), 0.5, 1)
    assert in_threads(halved, range(20), progress, "number", 4) == [number / 2 for number in range(20)]
    assert [fraction for fraction, _ in told] == pytest.approx([0.5 + number / 40 for number in range(1, 21)])
    assert told[-1][1] == "number 20 of 20"
    assert in_threads(halved, []) == []


def test_work_stops_at_the_first_that_fails():
    begun = []

    def fails(number):
        begun.append(number)
        if number == 3:
            raise DataError("3 is damaged")
        time.sleep(0.001)

    with pytest.raises(DataError, match="3 is damaged"):
        in_threads(fails, range(1000), most=2)
    assert len(begun) < 100


def test_threads_share_a_room_and_one_that_is_too_large_has_it_alone():
    room, held, most = Room(10), [], []

    def hold(amount):
        with room.holding(amount):
            held.append(amount)
            most.append(sum(held))
            time.sleep(0.002)
            held.remove(amount)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, [4, 3, 25, 2, 5, 10, 1, 4] * 4))
    assert len(most) == 32
    assert {total for total in most if total > 10} == {25}
    assert max(total for total in most if total <= 10) > 5
