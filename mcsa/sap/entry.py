"""One session as a directory has heard it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from mcsa.sap.packet import SapPacket
from mcsa.sap.sdp import Sdp, canonical

ENTRY_OVERHEAD = 192  # bytes around a text in a list: addresses, hash, times, scopes
FORGET_PERIODS = 10  # RFC 2974, section 4
OURS = "mcsa"  # attribute: version and conference id
WITHDRAWAL = "mcsa-withdraw"  # attribute: base64 of the SHA-256 of what deletes the session

Key = tuple[str, ...]
Announcer = tuple[str, str, int]  # source, originating source, hash


@dataclass(slots=True)
class Entry:
    """A session as it was heard. Times are seconds since 1970; `interval` is 0 until it was heard twice. `groups` are
    the SAP addresses that it came by, `datagram` is the last one, `own` one that this directory announces itself."""

    packet: SapPacket
    source: str
    sdp: Sdp
    datagram: bytes
    first_heard_at: float
    last_heard_at: float
    interval: float = 0.0
    repeated: bool = False
    own: bool = False
    groups: set[str] = field(default_factory=set)
    commitment: str | None = field(init=False)
    addresses: frozenset[str] = field(init=False)
    ends_at: int = field(init=False)
    key: Key = field(init=False)

    def __post_init__(self) -> None:
        self.commitment = self.sdp.attribute(WITHDRAWAL)
        self.addresses = frozenset(self.sdp.addresses())
        self.ends_at = self.sdp.end
        self.key = self._key()

    def _key(self) -> Key:
        """The session, and who says so: o= without its version names it (RFC 8866, section 5.2).

        Of one that can't be modified (it has a commitment, or authentication data that nobody here can check) each text
        is another. Of one whose o= names nothing, as all of ffmpeg's, the hash tells them apart.
        """
        which = ""
        if self.commitment is not None or self.packet.authenticated:
            which = hashlib.sha256(canonical(self.packet.payload)).hexdigest() + "a" * self.packet.authenticated
        elif self.sdp.session[1:2] == ("0",) and self.sdp.version == 0:
            which = str(self.packet.hash)
        return (self.source, self.packet.origin, *self.sdp.session, which)

    @property
    def announcer(self) -> Announcer:
        """Whose plain deletion it is deleted by."""
        return self.source, self.packet.origin, self.packet.hash

    @property
    def size(self) -> int:
        """Bytes in a list, at most."""
        return len(self.packet.payload) + ENTRY_OVERHEAD

    def expires_at(self, floor: float) -> float:
        """By its own end, or when nothing was heard for long."""
        silent_at = self.last_heard_at + max(floor, FORGET_PERIODS * self.interval)
        return min(silent_at, self.ends_at) if self.ends_at else silent_at

    def heard_again(self, group: str, now: float) -> None:
        """The same once more. What comes by several SAP addresses comes several times a period, and counts once."""
        since = now - self.last_heard_at
        if group in self.groups or since > self.interval / 2:
            self.interval, self.last_heard_at, self.repeated = max(0.0, since), now, True
        self.groups.add(group)


def opened_commitment(payload: bytes) -> str | None:
    """The commitment whose preimage a deletion has; None where it has none."""
    _, _, rest = payload.partition(f"a={WITHDRAWAL}:".encode())
    try:
        return commitment_of(bytes.fromhex(rest.split()[0].decode()))
    except (ValueError, IndexError):
        return None


def commitment_of(secret: bytes) -> str:
    """As it stands in a description."""
    return base64.b64encode(hashlib.sha256(secret).digest()).decode()
