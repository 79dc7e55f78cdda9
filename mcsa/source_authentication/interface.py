"""What a mode of source authentication is: two halves, sans-I/O, one at the source and one at each receiver.

The group key proves that some member made a packet; source authentication proves which (paper, section 3.4, end). It
lies inside the ESP packet, after the inner UDP header, in front of the payload, and covers

    label, mode, domain, group ID, epoch, origin's sender ID | sequence number, both inner ports | payload

where group ID is the announced group's in all its subgroups, and epoch, sender ID and sequence number are those of the
packet that the origin itself sealed: so it verifies over any number of relaying agents, which carry it unchanged.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, Protocol

from mcsa.encoding import encode_parts
from mcsa.errors import Refused
from mcsa.esp.relayed import Origin
from mcsa.plug_ins import plug_ins
from mcsa.source_authentication.clock_bound import ClockBound
from mcsa.source_authentication.source_key import SourceKey, SourcePublicKey
from mcsa.v1.types_pb2 import GroupPolicy

LABEL = "mcsa source v1"
BUFFERED_BYTES = 64 << 20  # of one group's packets that wait for their proof, `CLAIM_SIZE` more for each
CLAIM_SIZE = 600  # bytes that a packet costs beside its payload, about
_COUNTED = struct.Struct(">IHH")

CAUSES = {
    "source-malformed": True,
    "source-signature": True,
    "source-mac": True,
    "source-key": True,
    "source-future": False,
    "source-late": False,
    "source-clock": False,
    "source-repeated": False,
    "source-buffer": False,
    "source-undisclosed": False,
}
"""Why a packet isn't believed, and whether it takes a forger: what the network can do to honest packets is none."""


class Content(NamedTuple):
    """What an application says, or was said."""

    source_port: int
    destination_port: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Contents that are numbered, authenticated and sealed together; `detail` is the mode's own. A notice is what the
    mode has to say, and no application said."""

    contents: Sequence[Content]
    detail: Any = None
    is_notice: bool = False


class Claim(NamedTuple):
    """A packet that opened under the group key, and says that it is this origin's. `token` is whoever's asks."""

    origin: Origin
    source_port: int
    destination_port: int
    payload: bytes  # what authenticates it, and what was said
    token: Any = None


class Verdict(NamedTuple):
    """What became of a claim. Proved where `cause` is empty; `payload` is None in the mode's own packets."""

    claim: Claim
    payload: bytes | None = None
    cause: str = ""


@dataclass(slots=True)
class Clock:
    """The Authorizer's clock as this host knows it; `bound` is replaced whole."""

    bound: ClockBound | None = None

    def latest(self, now: float) -> float | None:
        """See `ClockBound`; None where nothing is known."""
        return None if self.bound is None else self.bound.latest(now)

    def earliest(self, now: float) -> float | None:
        """Likewise."""
        return None if self.bound is None else self.bound.earliest(now)


@dataclass(slots=True)
class Buffer:
    """How much of a group's packets may wait for their proof, all sources together."""

    left: int = BUFFERED_BYTES

    def take(self, size: int) -> bool:
        """False where there is no room."""
        if self.left < size:
            return False
        self.left -= size
        return True

    def give_back(self, size: int) -> None:
        """What was taken."""
        self.left += size


@dataclass(frozen=True, slots=True)
class Setting:
    """What all sources of a group have in common, on one host."""

    domain: str  # of the conference's home
    group_id: bytes  # of the group as it was announced
    policy: GroupPolicy
    clock: Clock = field(default_factory=Clock)
    buffer: Buffer = field(default_factory=Buffer)

    def bind(self, mode: str, origin: Origin) -> bytes:
        """What everything that an origin says in one epoch begins with; the same for any sequence number."""
        return encode_parts(LABEL, mode, self.domain, self.group_id, origin.epoch, origin.sender_id)


def counted(sequence: int, source_port: int, destination_port: int) -> bytes:
    """8 bytes: sequence number and ports."""
    return _COUNTED.pack(sequence, source_port, destination_port)


class Sender(Protocol):
    """The half at the source. One thread's."""

    def unready(self, now: float) -> str:
        """Why nothing can be sent now, as a cause to count; empty where it can."""

    def take(self, contents: Sequence[Content], now: float) -> list[Block]:
        """What the applications say; returns blocks that are to be sent now. The rest comes by `woken`."""

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""

    def woken(self, now: float) -> list[Block]:
        """Blocks that are to be sent because of the time."""

    def authenticate(self, block: Block, origins: Sequence[Origin]) -> list[bytes]:
        """For each content the payload as it is sealed, under the numbers that it gets: all of one epoch."""


class Receiver(Protocol):
    """The half at a receiver, for one source. One thread's."""

    def receive(self, claim: Claim, now: float) -> list[Verdict]:
        """What is decided by this packet: on itself, or on earlier ones, or nothing yet. Each claim is decided once."""

    def woken(self, now: float) -> list[Verdict]:
        """Gives up what has waited for too long; to be called now and then."""

    def close(self) -> None:
        """The source is gone: forgets what waits."""


class Prover(Protocol):
    """What a receiver half is beside, in modes that can tell `at_once`: the same without a word about others."""

    def prove(self, origin: Origin, source_port: int, destination_port: int, raw: bytes) -> bytes | str:
        """What was said, where it is proved to be this origin's; the cause where it isn't."""

    def prove_all(
        self, first: Origin, source_port: int, destination_port: int, raws: Sequence[bytes]
    ) -> Sequence[bytes | str]:
        """The same of several at once."""


@dataclass(frozen=True, slots=True)
class Promises:
    """What a mode is, in the paper's words and in an application's."""

    authenticates: bool
    explicit_signatures: bool  # the paper's "explicit digital signature"; else its "less explicit" mechanism
    transferable: bool  # a third party can be shown who said it; nobody promises to keep the proof
    delay: str  # that it adds, for people
    at_once: bool = True  # a receiver half can tell of each packet as it comes: it is a `Prover`


class Mode(Protocol):
    """A plug-in."""

    name: str
    title: str
    promises: Promises
    needs_clock: bool

    def overhead(self, policy: GroupPolicy) -> int:
        """Bytes that it adds to a payload at most: applications have so many fewer in each packet."""

    def check(self, policy: GroupPolicy) -> None:
        """`Refused("policy")` where no packet could be sent or believed under this policy."""

    def sender(self, setting: Setting, key: SourceKey) -> Sender:
        """The half at the source."""

    def receiver(self, setting: Setting, sender_id: int, key: SourcePublicKey) -> Receiver:
        """The half at a receiver."""


@cache
def modes() -> dict[str, Mode]:
    """All plug-ins found in this package, by name."""
    return {mode.name: mode for mode in plug_ins(__package__, "MODE").values()}


def mode_named(name: str) -> Mode:
    """The plug-in of that name, or `Refused` with the names there are."""
    try:
        return modes()[name]
    except KeyError:
        known = ", ".join(sorted(modes()))
        sentence = f"there is no source authentication '{name[:40]}'; there are: {known}"
        raise Refused("policy", "group-policy.source_authentication", sentence) from None
