"""What passes between the directory's core and its socket, beside what every core has (`mcsa.endpoint`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SapArrived:
    """A datagram to a SAP address; `source` is what the network claims."""

    payload: bytes
    source: str


@dataclass(frozen=True, slots=True)
class SendSap:
    """Effect: a datagram to a SAP address."""

    address: str
    payload: bytes
