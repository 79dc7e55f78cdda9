"""What a directory announces itself, and how it takes it back."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from mcsa.sap.entry import WITHDRAWAL
from mcsa.sap.packet import SapPacket
from mcsa.sap.schedule import Timer
from mcsa.sap.scopes import LINK
from mcsa.sap.sdp import Sdp, canonical

DELETED_AGAIN_AFTER = (1.0, 5.0)  # seconds: a deletion is not repaired, and what is said in one burst is lost in one


@dataclass(frozen=True, slots=True)
class Send:
    """A SAP packet for one of the SAP addresses, in one of the networks."""

    network: str
    address: str
    payload: bytes


class Said(NamedTuple):
    """What one announcement is said as in one network at one SAP address."""

    network: str
    packet: SapPacket
    address: str

    def send(self, packet: SapPacket) -> Send:
        """This one there."""
        return Send(self.network, self.address, packet.encode())


@dataclass(frozen=True, slots=True)
class Deletion:
    """One that is to be said at a time."""

    at: float
    send: Send


@dataclass(slots=True)
class Announced:
    """One of ours. `host` asked for it, last at `asked_at`; it is said as each of `says`."""

    sdp: bytes
    parsed: Sdp
    host: str
    says: list[Said]
    timer: Timer
    announced_at: float
    asked_at: float

    @property
    def packet(self) -> SapPacket:
        """As it is said in its own scope, in the first of its networks."""
        return self.says[0].packet

    @property
    def commitment(self) -> str | None:
        """What deletes it is the preimage of this."""
        return self.parsed.attribute(WITHDRAWAL)

    @property
    def size(self) -> int:
        """Bytes of its packets."""
        return sum(len(said.packet.encode()) for said in self.says)

    @property
    def ends_at(self) -> float:
        """By its own times."""
        return self.parsed.end or math.inf

    def has_ended(self, now: float, lease: float) -> bool:
        """By that, or since its host has not asked for it again; a clock that was set back doesn't lengthen it."""
        self.asked_at = min(self.asked_at, now)
        return now >= self.ends_at or now >= self.asked_at + lease


def spread(sdp: bytes, network: str, origin: str, address: str, taken: Collection[int], *, link: bool) -> list[Said]:
    """The packets of one description in one network: in its scope, and at the link's address with bare line feeds."""
    says = [Said(network, SapPacket(origin, free_hash(sdp, taken), sdp), address)]
    if link:
        bare = canonical(sdp).replace(b"\r\n", b"\n")
        says.append(Said(network, SapPacket(origin, free_hash(bare, {*taken, says[0].packet.hash}), bare), LINK))
    return says


def free_hash(sdp: bytes, taken: Collection[int]) -> int:
    """Never 0, changes with the text, and no two sessions of ours share one (RFC 2974 section 6)."""
    value = int.from_bytes(hashlib.sha256(sdp).digest()[:2], "big")
    while value in taken or value == 0:
        value = (value + 1) % 65_536
    return value


def deletions_of(own: Announced, secret: bytes, now: float) -> tuple[list[Send], list[Deletion]]:
    """What is said now, and what later. The payload is the o= line (RFC 2974 section 6), and the secret's."""
    payload = f"o={own.parsed.origin}\r\n".encode()
    if secret:
        payload += f"a={WITHDRAWAL}:{secret.hex()}\r\n".encode()
    sends = [said.send(SapPacket(said.packet.origin, said.packet.hash, payload, deletion=True)) for said in own.says]
    return sends, [Deletion(now + after, send) for after in DELETED_AGAIN_AFTER for send in sends]
