"""What passes between the MSM's core and its sockets, beside what every core has (`mcsa.endpoint`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mcsa.keys import GroupKey
from mcsa.v1.types_pb2 import GroupDescription

# ---- effects


@dataclass(frozen=True, slots=True)
class OpenGroup:
    """Join the multicast group and open its local socket; `GroupOpened` or `GroupFailed` follows. `domain` is that of
    the conference's home Authorizer: the keys of packets derive under it, on hosts of whichever domain."""

    domain: str
    group: GroupDescription


@dataclass(frozen=True, slots=True)
class CloseGroup:
    """Leave the multicast group, close its sockets, forget its keys."""

    group_id: bytes


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


@dataclass(frozen=True, slots=True)
class SwitchSending:
    """Send under this epoch from now on; each epoch and sender ID are switched to once only."""

    group_id: bytes
    epoch: int
    sender_id: int
    relaying: bool = False  # what others said, rather than what this host's applications say


@dataclass(frozen=True, slots=True)
class StartRelaying:
    """Carry packets between a subgroup and the backbone, both of which are open."""

    leaf_id: bytes
    backbone_id: bytes


@dataclass(frozen=True, slots=True)
class StopRelaying:
    """No longer. Both stay open."""

    leaf_id: bytes


@dataclass(frozen=True, slots=True)
class PauseSending:
    """Send nothing until `ResumeSending` or `SwitchSending`."""

    group_id: bytes


@dataclass(frozen=True, slots=True)
class ResumeSending:
    """Go on under the epoch last switched to."""

    group_id: bytes


@dataclass(frozen=True, slots=True)
class Distribute:
    """Listen, together with the group's other distributors, to what its newcomers ask."""

    group_id: bytes


@dataclass(frozen=True, slots=True)
class StopDistributing:
    """Listen no longer."""

    group_id: bytes


# ---- events


@dataclass(frozen=True, slots=True)
class GroupOpened:
    """The sockets are there."""

    group_id: bytes
    socket_path: str


@dataclass(frozen=True, slots=True)
class GroupFailed:
    """They are not; the sentence says why and what mends it."""

    group_id: bytes
    sentence: str


@dataclass(frozen=True, slots=True)
class GroupMessage:
    """A `GroupMessage` of the wire, by the bus or by the group itself."""

    group_id: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class UnknownEpochSeen:
    """A known sender uses an epoch that we don't have: a hint that an update was missed."""

    group_id: bytes


@dataclass(frozen=True, slots=True)
class SequenceLow:
    """Our sequence numbers in the current epoch run out: register anew, for a sender ID with fresh ones."""

    group_id: bytes
