"""What passes between the MSM and its packet processes (`packet_processes.py`), and as which bytes.

Pickles, since both ends are one program and nobody else can write there. Keys refuse to be pickled everywhere else:
here they go to the process that seals and opens with them, by a channel that only it has.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mcsa.errors import Refused
from mcsa.esp.derive import TrafficKey
from mcsa.esp.suite import suite_named
from mcsa.keys import Secret
from mcsa.networks import Networks
from mcsa.source_authentication import SourceKey
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.drivers import DriverSettings


class Gone(Exception):  # noqa: N818 - what happened, and to nobody's fault here
    """The other end has ended, or takes nothing any more."""


# ---- to a packet process


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message: `Ready` follows."""

    driver: str
    settings: DriverSettings


@dataclass(frozen=True, slots=True)
class Open:
    """`Opened` or `NotOpened` follows."""

    domain: str
    group: GroupDescription


@dataclass(frozen=True, slots=True)
class Control:
    """An effect of the core on a group that is open there."""

    group_id: bytes
    effect: Any


@dataclass(frozen=True, slots=True)
class MoveDriver:
    """`Driver.move`."""

    networks: Networks


@dataclass(frozen=True, slots=True)
class MoveGroup:
    """`GroupAtWork.move`; `NotMoved` may follow."""

    group_id: bytes
    address: str


@dataclass(frozen=True, slots=True)
class Close:
    """`Closed` follows."""

    group_id: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer to `Counted`: the MSM lives."""


# ---- from it


@dataclass(frozen=True, slots=True)
class Ready:
    """Groups may be opened."""


@dataclass(frozen=True, slots=True)
class Opened:
    """To `Open`."""

    socket_path: str


@dataclass(frozen=True, slots=True)
class NotOpened:
    """To `Open`."""

    refused: Refused


@dataclass(frozen=True, slots=True)
class Closed:
    """To `Close`: the group's sockets are free."""


@dataclass(frozen=True, slots=True)
class NotMoved:
    """To `MoveGroup`."""

    group_id: bytes
    refused: Refused


@dataclass(frozen=True, slots=True)
class Told:
    """An event for the core."""

    group_id: bytes
    event: Any


@dataclass(frozen=True, slots=True)
class Counted:
    """The counters of all groups, as they are now, each so often: the packet process lives."""

    counters: Mapping[bytes, Mapping[str, int]]


# ---- as bytes


def send(channel: Connection, message: Any) -> None:
    """By one thread at a time. Raises `Gone`."""
    written = io.BytesIO()
    _Pickler(written, pickle.HIGHEST_PROTOCOL).dump(message)
    try:
        channel.send_bytes(written.getbuffer())
    except OSError as error:
        raise Gone from error


def receive(channel: Connection) -> Any:
    """Waits for a message. Raises `Gone`."""
    try:
        raw = channel.recv_bytes()
    except (EOFError, OSError) as error:
        raise Gone from error
    return pickle.loads(raw)  # noqa: S301 - of our own other process


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        match obj:
            case TrafficKey():
                return _traffic_key, (obj.reveal(), obj.suite.name, obj.spi)
            case Secret():
                return type(obj), (obj.reveal(),)
            case SourceKey():
                return SourceKey, (obj.reveal(),)
            case Refused():
                return Refused, (obj.code, obj.rule, obj.sentence)
        return NotImplemented


def _traffic_key(raw: bytes, suite: str, spi: int) -> TrafficKey:
    return TrafficKey(raw, suite_named(suite), spi)
