"""Status: what a participant tells of what it has, in as many datagrams as it takes, each of use on its own.

The own stream comes first in each part; the others follow in ascending order of their process ids. A part begins with
the stream that ended the part before, so that it says of every process id between its first and its last whether it
is known: what isn't listed there is not known at all. The first part reaches down, the last up to the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mcsa.control.fragments import ID_SIZE
from mcsa.errors import Rejected
from mcsa.v1.conference_pb2 import ControlMessage, Fragment, Status, StreamPosition

_POSITION_SIZE = 26  # bytes at most, serialised: two heads of 2, a process id of 16, a number of 6
_REST_SIZE = 20  # bytes at most of a Status beside its positions: the message's head, `oldest` and `number`


@dataclass(frozen=True, slots=True)
class Told:
    """One part of a Status, as it arrived."""

    number: int
    last: int
    oldest: int
    positions: Mapping[bytes, int]
    complete_below: bool
    complete_above: bool

    def position(self, process_id: bytes) -> int | None:
        """How far the stream is there: 0 where it is not known at all, None where this part doesn't say."""
        if process_id in self.positions:
            return self.positions[process_id]
        if not self.positions:
            return 0
        below_first, above_last = process_id < min(self.positions), process_id > max(self.positions)
        if (below_first and not self.complete_below) or (above_last and not self.complete_above):
            return None
        return 0


def status_parts(
    own: StreamPosition, others: Iterable[StreamPosition], oldest: int, number: int, room: int
) -> list[bytes]:
    """Serialised ControlMessages of at most `room` bytes (at least `fragments.BODY_MIN`) that together tell all."""
    at_once = (room - _REST_SIZE) // _POSITION_SIZE - 1
    rest = sorted(others, key=lambda position: position.process_id)
    parts: list[bytes] = []
    start = 0
    while not parts or start < len(rest) - 1:
        status = Status(positions=[own, *rest[start : start + at_once]], oldest=oldest, number=number)
        parts.append(ControlMessage(status=status).SerializeToString(deterministic=True))
        start += at_once - 1
    return parts


def parse_status(fragment: Fragment) -> Told:
    """What an authentic fragment of sequence 0 tells. `Rejected("status")` where it is no Status, or says nonsense."""
    try:
        message = ControlMessage.FromString(fragment.body)
    except DecodeError:
        raise Rejected("status", "no protobuf") from None
    positions = message.status.positions
    if message.WhichOneof("body") != "status" or not positions:
        raise Rejected("status", "no status")
    own, *others = positions
    if any(len(position.process_id) != ID_SIZE for position in positions) or own.process_id != fragment.process_id:
        raise Rejected("status", "process id")
    if not 1 <= message.status.oldest <= own.sequence + 1:
        raise Rejected("status", "oldest")
    return Told(
        number=message.status.number,
        last=own.sequence,
        oldest=message.status.oldest,
        positions={position.process_id: position.sequence for position in others},
        complete_below=fragment.index == 0,
        complete_above=fragment.index == fragment.count - 1,
    )
