"""What passes between the Authorizer's core and its doors, beside what every core has (`mcsa.endpoint`)."""

from __future__ import annotations

from dataclasses import dataclass

from mcsa.endpoint import Answered, Failed, Request
from mcsa.keys import GroupKey
from mcsa.v1.types_pb2 import GroupDescription

# ---- effects


@dataclass(frozen=True, slots=True)
class InstallSender:
    """Be able to send to a group under this epoch, as the given sender. `domain` is the conference's."""

    domain: str
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
    """Send a `GroupMessage` to the group itself, sealed under this epoch; not where that isn't installed."""

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
class Append:
    """Store an entry at the end of a log; `Appended` or `Fenced` follows. One at a time for each log.

    `whole`: the entry takes the place of all that was before, which may be damaged. `marked`: that it was stored is to
    be known outside of the store too, since no member could bear witness of it.
    """

    log: str
    plaintext: bytes
    whole: bool = False
    marked: bool = False


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Store all that a log amounts to, so that what was before it can go. Entries that come later are stored later."""

    log: str
    plaintext: bytes


@dataclass(frozen=True, slots=True)
class EndLog:
    """Remove a log."""

    log: str


@dataclass(frozen=True, slots=True)
class Load:
    """Read a log again; `Loaded` follows."""

    log: str


@dataclass(frozen=True, slots=True)
class Decided:
    """A policy decision, for the audit log."""

    subject: str
    action: str
    resource: str
    allowed: bool
    rule: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that an operator must look at; `what` is one of a fixed set."""

    what: str
    resource: str
    sentence: str


@dataclass(frozen=True, slots=True)
class AskHome:
    """Ask the Authorizer of a peer domain, on its bus; `FromHome` follows."""

    home: str
    request: Request


# ---- events


@dataclass(frozen=True, slots=True)
class FromHome:
    """What a home answered, or that it didn't."""

    home: str
    answer: Answered | Failed


@dataclass(frozen=True, slots=True)
class HomeTold:
    """A home told a group something, on its bus; nothing of it is believed yet."""

    home: str
    group_id: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Appended:
    """The entry is stored."""

    log: str


@dataclass(frozen=True, slots=True)
class Fenced:
    """It isn't, and can't be: the log is not as this process thought. `elsewhere`: another process has written to it;
    else the store has gone back."""

    log: str
    elsewhere: bool = True


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a log said when it was read. `whole` is False where its end is missing, or can't be read: what was decided
    there is unknown."""

    log: str
    snapshot: bytes | None
    entries: tuple[bytes, ...]
    whole: bool = True
