"""What the Authorizer's core wants done, beside what every core can (`mcsa.endpoint`)."""

from __future__ import annotations

from dataclasses import dataclass

from mcsa.keys import GroupKey
from mcsa.v1.types_pb2 import GroupDescription


@dataclass(frozen=True, slots=True)
class InstallSender:
    """Be able to send to a group under this epoch, as the given sender."""

    group: GroupDescription
    epoch: int
    key: GroupKey
    sender_id: int


@dataclass(frozen=True, slots=True)
class DropSender:
    """Forget an epoch."""

    group_id: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class SendToGroup:
    """Send an update or a beacon to the group itself, sealed under this epoch."""

    group_id: bytes
    epoch: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Tell:
    """Send bytes to whoever listens to a group's subject on the bus."""

    group_id: bytes
    payload: bytes
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Remember:
    """Write a conference down (sealed), so that a restarted Authorizer knows it; empty bytes forget it."""

    conference_id: bytes
    state: bytes


@dataclass(frozen=True, slots=True)
class Decided:
    """A policy decision, for the audit log."""

    subject: str
    action: str
    resource: str
    allowed: bool
    rule: str
