"""What passes between the CSM's core and its doors, beside what every core has (`mcsa.endpoint`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from mcsa.errors import Refused
from mcsa.identity import Credentials
from mcsa.keys import ConferenceKey
from mcsa.v1.csm_pb2 import RememberedParticipation, UserKey

# ---- events


@dataclass(frozen=True, slots=True)
class ApplicationAsked:
    """A request on the application socket."""

    connection: object
    number: int
    verb: str
    message: Any
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class ApplicationGone:
    """An application's connection has ended."""

    connection: object


@dataclass(frozen=True, slots=True)
class UserLoaded:
    """A user's key file was read (or not); `then` is what `LoadUser` carried."""

    then: Callable[[Credentials | None, Refused | None, float], list[Any]]
    credentials: Credentials | None = None
    refusal: Refused | None = None


@dataclass(frozen=True, slots=True)
class ControlArrived:
    """A datagram of the control group, opened by the MSM."""

    group_id: bytes
    datagram: bytes


@dataclass(frozen=True, slots=True)
class RelayLost:
    """The MSM's local socket of a group has ended: the MSM has."""

    group_id: bytes


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an earlier process wrote down: the participations to take up again."""

    participations: Sequence[RememberedParticipation]


# ---- effects


@dataclass(frozen=True, slots=True)
class AnswerApplication:
    """Answer a request on the application socket, or refuse it."""

    connection: object
    number: int
    message: Message | None = None
    refusal: Refused | None = None


@dataclass(frozen=True, slots=True)
class TellApplication:
    """An event for one application."""

    connection: object
    message: Message


@dataclass(frozen=True, slots=True)
class LoadUser:
    """Read a user's key file; `UserLoaded` follows."""

    key: UserKey
    then: Callable[[Credentials | None, Refused | None, float], list[Any]]


@dataclass(frozen=True, slots=True)
class OpenRelay:
    """Connect to the MSM's local socket of a control group."""

    group_id: bytes
    path: str


@dataclass(frozen=True, slots=True)
class CloseRelay:
    """Disconnect."""

    group_id: bytes


@dataclass(frozen=True, slots=True)
class SendControl:
    """A datagram to a control group, through the MSM."""

    group_id: bytes
    port: int
    datagram: bytes


@dataclass(frozen=True, slots=True)
class KeepKey:
    """Write a conference key down, sealed; None forgets all keys of that participation."""

    conference_id: bytes
    user: str
    key_epoch: int
    key: ConferenceKey | None


@dataclass(frozen=True, slots=True)
class Remember:
    """Write a participation down, sealed, so that a restarted CSM comes back; None forgets it. Of who only sends, the
    group's id is in the place of the conference's."""

    conference_id: bytes
    user: str
    participation: RememberedParticipation | None


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """Write a conference's record as far as it goes; nothing follows, a failure is logged and tried again."""

    name: str
    record: bytes
