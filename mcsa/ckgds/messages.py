"""What passes between a run of a key scheme and its surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mcsa.keys import ConferenceKey
from mcsa.v1.conference_pb2 import ControlMessage, Fragment
from mcsa.v1.types_pb2 import SignedStatement


class Heard(Protocol):
    """A control message whose signature was verified (`mcsa.control.streams.Delivered`)."""

    @property
    def user(self) -> str: ...

    @property
    def process_id(self) -> bytes: ...

    @property
    def message(self) -> ControlMessage: ...

    @property
    def raw(self) -> bytes: ...

    @property
    def fragments(self) -> Sequence[Fragment]: ...

    @property
    def certificate(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Say:
    """To all; it comes back to the run like what the others say."""

    message: ControlMessage


@dataclass(frozen=True, slots=True)
class Established:
    """All hold the key, as the Coordinator's `activate` with everybody's signature shows."""

    key: ConferenceKey
    key_epoch: int
    run: int
    participants: tuple[str, ...]
    participations: tuple[SignedStatement, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The run is over without a key. `absent` said nothing in time; `cheaters` were caught, at what."""

    reason: str
    absent: tuple[str, ...] = ()
    cheaters: Mapping[str, str] = field(default_factory=dict)
