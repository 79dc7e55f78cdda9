"""What participants tell of what they have."""

from __future__ import annotations

import pytest

from mcsa.control.fragments import BODY_MIN
from mcsa.control.status import parse_status, status_parts
from mcsa.errors import Rejected
from mcsa.v1.conference_pb2 import ControlMessage, Fragment, Status, StreamPosition
from tests.control.parts import PROCESS, sealed, status


def part(body: bytes, index: int = 0, count: int = 1) -> Fragment:
    return Fragment(process_id=PROCESS, index=index, count=count, body=body)


def position(number: int) -> StreamPosition:
    return StreamPosition(process_id=number.to_bytes(16, "big"), sequence=number)


@pytest.mark.parametrize("room", [BODY_MIN, 200, 1_000])
@pytest.mark.parametrize("known", [0, 1, 2, 3, 7, 100])
def test_parts_together_tell_of_everybody(room: int, known: int):
    """Even numbers are known; of each, odd or even, the parts that say anything say the truth, and one does."""
    own = StreamPosition(process_id=PROCESS, sequence=9)
    parts = status_parts(own, [position(2 * i + 2) for i in range(known)], 3, 1, room)
    assert max(map(len, parts)) <= room
    told = [parse_status(part(body, index, len(parts))) for index, body in enumerate(parts)]
    assert {(one.last, one.oldest) for one in told} == {(9, 3)}
    for number in range(1, 2 * known + 3):
        truth = number if number % 2 == 0 and number <= 2 * known else 0
        said = {one.position(number.to_bytes(16, "big")) for one in told} - {None}
        assert said == {truth}


def test_parts_are_few():
    own = StreamPosition(process_id=PROCESS, sequence=9)
    assert len(status_parts(own, [position(i) for i in range(20)], 1, 1, 700)) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xff",
        sealed(b"text"),
        ControlMessage(status=Status(oldest=1)).SerializeToString(),
        status(5, process_id=b"q" * 16),
        status(5, process_id=b"short"),
        status(5, long=1),
        status(5, oldest=0),
        status(5, oldest=7),
    ],
)
def test_nonsense_is_rejected(body: bytes):
    with pytest.raises(Rejected) as rejected:
        parse_status(part(body))
    assert rejected.value.cause == "status"
