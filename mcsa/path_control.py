"""What a membership (`mcsa.membership`) asks of a packet path: epochs it opens, whom it hears, what it sends under."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from mcsa.esp.derive import TrafficKey
from mcsa.keys import GroupKey
from mcsa.source_authentication import ClockBound, SourceKey


@dataclass(frozen=True, slots=True)
class InstallEpoch:
    """Be able to receive under this epoch."""

    group_id: bytes
    epoch: int
    key: GroupKey


@dataclass(frozen=True, slots=True)
class DropEpoch:
    """Forget it."""

    group_id: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class SetRoster:
    """Senders that may be heard, and from which address; `own` is this host's, whose copies are not delivered."""

    group_id: bytes
    addresses: Mapping[int, str]
    own: int | None
    authorizer: int | None  # whose packets on the update port come to the core
    relays: Collection[int] = ()  # of the senders those that are relaying agents
    own_relay: int | None = None  # this host's, where it is one
    distant: Collection[int] = ()  # senders of other subgroups: may be heard by relaying agents
    source_keys: Mapping[int, bytes] = field(default_factory=dict)  # of all of these that have one
    announced: bytes = b""  # id of the group as it was announced, whose subgroup this may be: sources say that one


@dataclass(frozen=True, slots=True)
class SetSource:
    """What this sender ID of ours sends is authenticated by this key. Comes before `SwitchSending` to that ID."""

    group_id: bytes
    sender_id: int
    key: SourceKey
    announced: bytes  # as in `SetRoster`


@dataclass(frozen=True, slots=True)
class SetClock:
    """What is known of the Authorizer's clock by now."""

    group_id: bytes
    bound: ClockBound


@dataclass(frozen=True, slots=True)
class SwitchSending:
    """Send under this epoch from now on; each epoch and sender ID are switched to once only."""

    group_id: bytes
    epoch: int
    sender_id: int
    relaying: bool = False  # what others said, rather than what this host's applications say


@dataclass(frozen=True, slots=True)
class SendUnder:
    """Likewise where the key of our own packets is all that there is: of a host that sends and is no member."""

    group_id: bytes
    epoch: int
    sender_id: int
    key: TrafficKey


@dataclass(frozen=True, slots=True)
class PauseSending:
    """Send nothing until `ResumeSending`, `SwitchSending` or `SendUnder`."""

    group_id: bytes


@dataclass(frozen=True, slots=True)
class ResumeSending:
    """Go on under the epoch last switched to."""

    group_id: bytes
