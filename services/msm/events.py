"""What passes between the MSM's core and its sockets, beside what every core has (`mcsa.endpoint`)."""

from __future__ import annotations

from dataclasses import dataclass

from mcsa.esp.relayed import Origin
from mcsa.networks import Network
from mcsa.path_control import (
    DropEpoch,
    InstallEpoch,
    PauseSending,
    ResumeSending,
    SendUnder,
    SetClock,
    SetRoster,
    SetSource,
    SwitchSending,
)
from mcsa.v1.types_pb2 import GroupDescription

__all__ = [
    "ClockSet",
    "CloseGroup",
    "Distribute",
    "DropEpoch",
    "GroupFailed",
    "GroupMessage",
    "GroupOpened",
    "InstallEpoch",
    "NetworkChanged",
    "OpenGroup",
    "OpenSending",
    "PauseSending",
    "ResumeSending",
    "SendUnder",
    "SequenceLow",
    "SetClock",
    "SetRoster",
    "SetSource",
    "SourceForged",
    "StartRelaying",
    "StopDistributing",
    "StopRelaying",
    "SwitchSending",
    "UnknownEpochSeen",
]

# ---- effects


@dataclass(frozen=True, slots=True)
class OpenGroup:
    """Join the multicast group and open its local socket; `GroupOpened` or `GroupFailed` follows. `domain` is that of
    the conference's home Authorizer: the keys of packets derive under it, on hosts of whichever domain."""

    domain: str
    group: GroupDescription


@dataclass(frozen=True, slots=True)
class OpenSending:
    """Open a local socket from which plaintext goes to the group, and join nothing. Otherwise as `OpenGroup`."""

    domain: str
    group: GroupDescription


@dataclass(frozen=True, slots=True)
class CloseGroup:
    """Leave the multicast group, close its sockets, forget its keys."""

    group_id: bytes


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
class ClockSet:
    """This host's clock was set: what was known of the Authorizer's by it is worth nothing (`tesla`)."""

    group_id: bytes


@dataclass(frozen=True, slots=True)
class SequenceLow:
    """Our sequence numbers in the current epoch run out: register anew, for a sender ID with fresh ones."""

    group_id: bytes


@dataclass(frozen=True, slots=True)
class SourceForged:
    """A packet opened under the group key, and isn't of the sender that it says it is. Told once a second at most."""

    group_id: bytes
    origin: Origin  # as it claims
    cause: str
    relay: int | None  # the sender ID of the relaying agent that it came by, as that SPI says
    source: str  # outer address
    packet: bytes  # as received


@dataclass(frozen=True, slots=True)
class NetworkChanged:
    """One of the host's networks is this now."""

    name: str
    network: Network
