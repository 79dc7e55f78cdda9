"""What is kept of a stream."""

from __future__ import annotations

from mcsa.control.history import HISTORY_BYTES, HISTORY_MESSAGES, History
from mcsa.v1.conference_pb2 import Fragment


def test_an_empty_one_has_nothing():
    history = History()
    assert (history.oldest, history.last, history.find(1)) == (1, 0, None)


def test_bounded_in_number():
    history = History()
    for index in range(HISTORY_MESSAGES + 10):
        history.append([Fragment(index=index)])
    assert (history.oldest, history.last) == (11, HISTORY_MESSAGES + 10)
    assert history.find(10) is None
    assert history.find(11) == (Fragment(index=10),)


def test_bounded_in_bytes():
    history = History()
    big = [Fragment(body=bytes(1_000))] * 60
    for _ in range(100):
        history.append(big)
    kept = history.last - history.oldest + 1
    assert kept == HISTORY_BYTES // sum(fragment.ByteSize() for fragment in big)


def test_the_newest_stays_however_big():
    history = History()
    history.append([Fragment(body=bytes(HISTORY_BYTES + 1))])
    assert history.oldest == history.last == 1


def test_skipping_forgets():
    history = History()
    history.append([Fragment()])
    history.skip_to(7)
    assert (history.oldest, history.last, history.find(1), history.find(7)) == (8, 7, None, None)
