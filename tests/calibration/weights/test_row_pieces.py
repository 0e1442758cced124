from __future__ import annotations

import threading

import numpy as np
import pytest

from jisu.calibration.weights import row_pieces
from jisu.calibration.weights.row_pieces import FEW, count_cores, for_row_pieces


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_every_row_is_visited_once(monkeypatch, cores, rows):
    monkeypatch.setattr(row_pieces, "count_cores", lambda: cores)
    visits = np.zeros(rows, int)

    def visit(place):
        visits[place] += 1

    for_row_pieces(rows, 3, lambda: visit)
    assert visits.tolist() == [1] * rows


def test_each_thread_has_a_worker_of_its_own(monkeypatch):
    monkeypatch.setattr(row_pieces, "count_cores", lambda: 2)
    makers = []
    for_row_pieces(2 * FEW, 1, lambda: makers.append(threading.get_ident()) or (lambda place: None))
    assert len(makers) == 2


def test_few_pieces_start_no_thread(monkeypatch):
    monkeypatch.setattr(row_pieces, "count_cores", lambda: 8)
    names = []
    for_row_pieces(FEW, 1, lambda: lambda place: names.append(threading.current_thread()))
    assert set(names) == {threading.current_thread()}


def test_pieces_of_a_piece_stay_in_its_thread(monkeypatch):
    monkeypatch.setattr(row_pieces, "count_cores", lambda: 2)
    threads = {}
    both = threading.Barrier(2)

    def outer():
        both.wait(10)
        own = []
        threads[threading.get_ident()] = own

        def work(place):
            for_row_pieces(100 * FEW, 1, lambda: lambda inner: own.append(threading.get_ident()))

        return work

    for_row_pieces(4, 1, outer, few=1)
    assert len(threads) == 2
    assert all(set(own) == {ident} and len(own) == 200 * FEW for ident, own in threads.items())
    assert threading.get_ident() not in threads


def test_what_a_worker_raises_is_raised(monkeypatch):
    monkeypatch.setattr(row_pieces, "count_cores", lambda: 2)

    def fail(place):
        if place.start == 20:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_row_pieces(32, 1, lambda: fail)


def test_there_is_a_core():
    assert count_cores() >= 1
