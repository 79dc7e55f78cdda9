"""Changes of one group that were asked for and wait for the next flush."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcsa.endpoint import Answer, Refuse
from mcsa.errors import Refused
from mcsa.v1.authorizer_pb2 import AdoptResponse, RegisterRequest
from services.authorizer.journal import Then

JOINS_AT_ONCE = 1_000  # in one flush: its record has to fit into a message of the broker


@dataclass(frozen=True, slots=True)
class Joiner:
    """A registration that was admitted and waits for the flush."""

    token: object
    request: RegisterRequest
    request_hash: bytes
    host: str
    user: str | None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Adoption:
    """A member that a distributor has welcomed; the token is of the distributor's report."""

    joiner: Joiner
    sender_id: int
    distributor: str

    def answer(self, *, adopted: bool) -> Then:
        """There is nothing left to report."""
        return lambda _: [Answer(self.joiner.token, AdoptResponse(adopted=adopted))]

    def refuse(self, refused: Refused) -> Then:
        """It is no member, and has been left out."""
        return lambda _: [Refuse(self.joiner.token, refused)]


@dataclass(slots=True)
class Batch:
    """See the module."""

    joiners: dict[str, Joiner] = field(default_factory=dict)
    adopting: dict[str, Adoption] = field(default_factory=dict)  # by host
    somebody_left: bool = False  # who was welcomed perhaps, and isn't known here as a member
    forfeiting: set[str] = field(default_factory=set)  # distributors that lose their block, and stay members
    restocking: set[str] = field(default_factory=set)  # distributors whose block is used up
    dismissed: list[Joiner] = field(default_factory=list)  # left or were thrown out while they waited
    leaving: set[str] = field(default_factory=set)  # hosts
    users_leaving: dict[str, set[str]] = field(default_factory=dict)  # by host
    ejecting: bool = False
    taking_over: bool = False  # this process has just read the group's log
    traceparent: str | None = None
    due_at: float | None = None
    then: list[Then] = field(default_factory=list)

    def due(self, at: float, traceparent: str | None = None) -> None:
        """To be flushed at that time at the latest."""
        self.traceparent = self.traceparent or traceparent
        self.due_at = at if self.due_at is None else min(self.due_at, at)

    def trace(self, traceparent: str | None) -> None:
        """The change at hand belongs to this trace."""
        self.traceparent = traceparent or self.traceparent

    def join(self, joiner: Joiner) -> Joiner | None:
        """One more; returns the one of the same host whose place it takes."""
        superseded = self.joiners.pop(joiner.host, None)
        adoption = self.adopting.pop(joiner.host, None)
        if adoption is not None:
            self.then.append(adoption.answer(adopted=False))
        self.joiners[joiner.host] = joiner
        return superseded

    def forget_members(self) -> None:
        """There are none any more that could leave."""
        self.leaving.clear()
        self.users_leaving.clear()
        self.adopting.clear()  # who reported them reports again
        self.somebody_left = False

    def dismiss(self, host: str) -> None:
        """A joiner that isn't to join any more, where there is one."""
        joiner = self.joiners.pop(host, None)
        if joiner is not None:
            self.dismissed.append(joiner)
        adoption = self.adopting.pop(host, None)
        if adoption is not None:
            self.leave_out(adoption, Refused("dismissed", "membership", "the newcomer left, or was thrown out"))

    def leave_out(self, adoption: Adoption, refused: Refused) -> None:
        """Not adopted: it has the key all the same, so that there has to be another one."""
        self.adopting.pop(adoption.joiner.host, None)
        self.somebody_left = True
        self.then.append(adoption.refuse(refused))

    def split(self, now: float) -> Batch:
        """What is too much for one flush: the last joiners, due at once."""
        later = Batch()
        for host in list(self.joiners)[JOINS_AT_ONCE:]:
            later.join(self.joiners.pop(host))
        if later.joiners:
            later.due(now, self.traceparent)
        return later
