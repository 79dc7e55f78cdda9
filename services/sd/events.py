"""What passes between the directory's core and its doors, beside what every core has (`mcsa.endpoint`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SapArrived:
    """A datagram to a SAP address, `group`; `source` is what the network claims."""

    payload: bytes
    source: str
    group: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an earlier process has written down; before anything else."""

    state: bytes


@dataclass(frozen=True, slots=True)
class SendSap:
    """Effect: a datagram to a SAP address, in one of the networks."""

    network: str
    address: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class KeepState:
    """Effect: to be written down, in place of what was."""

    state: bytes
