"""What a record proves, for a table that people read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignedEpoch:
    """A conference key epoch that a user signed to hold, at a time by its own clock (seconds since 1970)."""

    key_epoch: int
    signed_at: float


@dataclass(frozen=True, slots=True)
class Participated:
    """A user that can't deny having been there."""

    user: str
    certificate_fingerprint: bytes
    epochs: tuple[SignedEpoch, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """A conference key that all of a roster confirmed; `entry` is the Coordinator's Activate."""

    entry: int
    run: int
    key_epoch: int
    ckgds: str
    participants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Noted:
    """Something about a user, at an entry: an ejection, an absence, or what an honest user doesn't say."""

    entry: int
    user: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Receipted:
    """`user` signed that it received message `sequence` of `sender`; `entry` is the receipt, `of` the message."""

    entry: int
    user: str
    sender: str
    of: int


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a record proves. Times are seconds since 1970; by the writer's clock, where nothing else is said."""

    conference_id: bytes
    title: str
    coordinator: str
    authorizer: str
    writer: str
    """SPIFFE ID of whose record it says it is."""
    began_at: float
    last_at: float
    """Of the last entry before a countersignature."""
    entries: int
    head: bytes
    """SHA-256 of the last entry."""
    participants: tuple[Participated, ...]
    keys: tuple[Key, ...]
    unproven_runs: tuple[int, ...]
    """Runs that were activated, and of which this record lacks messages, so that nothing is proven of them."""
    ejected: tuple[Noted, ...]
    cheaters: tuple[Noted, ...]
    """Of whom an accusation's evidence shows that they cheated; `sentence` says at what, `entry` is the accusation."""
    absent: tuple[Noted, ...]
    """As the Coordinator recorded it; not proven."""
    departed: tuple[Noted, ...]
    messages: Mapping[str, int]
    """Control messages by user."""
    sealed: Mapping[str, int]
    """Sealed messages of applications by user."""
    receipts: tuple[Receipted, ...]
    irregular: tuple[Noted, ...]
    """What users signed that they should not have: it counts for nothing, and stays on record."""
    missing: tuple[str, ...]
    """Sentences: what the record lacks."""
    ended_by: str
    """"closing", "departure" (of the writer), "ejection" (of the writer), or "" where it has no end."""
    countersigned: bool
    countersigned_at: float
    """By the Authorizer's clock; 0 where it is not."""
    countersigned_for: str
    """SPIFFE ID of the host that asked for it; empty where it is not."""
    countersigned_by: str
    """SPIFFE ID of the Authorizer: `authorizer`, or one of the writer's domain; empty where it is not."""

    @property
    def complete(self) -> bool:
        """Whether all is here that existed, as far as Coordinator (and writer, where it left) said when it ended."""
        return bool(self.ended_by) and not self.missing
