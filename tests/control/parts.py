"""Fragments as an honest or a lying participant signs them."""

from __future__ import annotations

from mcsa.control.fragments import sign_fragment, sign_message
from mcsa.identity import Credentials
from mcsa.v1.conference_pb2 import ControlMessage, Fragment, Introduction, SealedMessage, Status, StreamPosition
from tests.world import NOW

CONFERENCE = b"c" * 16
PROCESS = b"p" * 16


def introduction() -> bytes:
    return ControlMessage(introduction=Introduction(time_ms=int(NOW * 1000))).SerializeToString()


def sealed(text: bytes) -> bytes:
    return ControlMessage(sealed=SealedMessage(sframe=text)).SerializeToString()


def status(last: int, oldest: int = 1, process_id: bytes = PROCESS, number: int = 0, **others: int) -> bytes:
    """Of a participant that knows these others: the letter is the process id's."""
    positions = [StreamPosition(process_id=process_id, sequence=last)]
    positions += [StreamPosition(process_id=name.encode() * 16, sequence=has) for name, has in others.items()]
    return ControlMessage(status=Status(positions=positions, oldest=oldest, number=number)).SerializeToString()


def message(user: Credentials, sequence: int, raw: bytes, process_id: bytes = PROCESS) -> list[bytes]:
    """Datagrams of a message of this user."""
    fragments = sign_message(user, CONFERENCE, process_id, sequence, raw)
    return [fragment.SerializeToString() for fragment in fragments]


def piece(
    user: Credentials, sequence: int, body: bytes, index: int = 0, count: int = 1, process_id: bytes = PROCESS
) -> bytes:
    """One datagram that says whatever is asked of it."""
    return sign_fragment(user, CONFERENCE, process_id, sequence, index, count, body).SerializeToString()


def changed(datagram: bytes, **fields: object) -> bytes:
    """A datagram with other fields, signed as before."""
    fragment = Fragment.FromString(datagram)
    for name, value in fields.items():
        fragment.ClearField(name)  # type: ignore[arg-type]
        if isinstance(value, list):
            getattr(fragment, name).extend(value)
        else:
            setattr(fragment, name, value)
    return fragment.SerializeToString()
