"""Reading everything in parallel before the work begins."""

import threading
from dataclasses import replace

import pytest

import made_data
from medrobust.data import reading
from medrobust.data.reading import AHEAD, read_all, threads
from medrobust.errors import DataError


def test_every_case_is_read_once_and_progress_is_told(monkeypatch):
    monkeypatch.setattr(reading, "threads", lambda: 2)
    dataset, read, told = made_data.stripes(40), [], []

    def note(case):
        read.append(case.case_id)
        return dataset.read(case)

    read_all(replace(dataset, read=note), dataset.cases, lambda done, note: told.append((done, note)))
    assert sorted(read) == [case.case_id for case in dataset.cases]
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert told[-1] == (39 / 40, "image 39 of 40")


def test_the_first_damaged_case_stops_it(monkeypatch):
    monkeypatch.setattr(reading, "threads", lambda: 2)
    dataset, read = made_data.stripes(400), []

    def fails(case):
        read.append(case)
        if case.case_id == "c03":
            raise DataError("c03 is damaged")
        return dataset.read(case)

    with pytest.raises(DataError, match="c03 is damaged"):
        read_all(replace(dataset, read=fails), dataset.cases)
    assert len(read) < 60


def test_few_cases_are_read_ahead(monkeypatch):
    """Memory does not grow with the number of cases: while the first is not there, few others are read."""
    monkeypatch.setattr(reading, "threads", lambda: 2)
    dataset, gate, read = made_data.stripes(200), threading.Event(), []

    def waits(case):
        if case.case_id == "c00":
            gate.wait(0.5)
            before.append(len(read))
        read.append(case)
        return dataset.read(case)

    before = []
    read_all(replace(dataset, read=waits), dataset.cases)
    assert before[0] <= 2 * AHEAD + 1
    assert len(read) == 200


def test_there_is_a_thread():
    assert threads() >= 1
