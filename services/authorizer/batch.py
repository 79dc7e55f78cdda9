"""Changes of one group that were asked for and wait for the next flush."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mcsa.endpoint import Answer, Refuse
from mcsa.errors import Refused
from mcsa.v1.authorizer_pb2 import AdoptResponse, RegisterRequest, RegisterSenderRequest
from services.authorizer.journal import Then
from services.authorizer.members import Members
from services.authorizer.room import Room


@dataclass(frozen=True, slots=True)
class Joiner:
    """A registration that was admitted and waits for the flush."""

    token: object
    request: RegisterRequest
    request_hash: bytes
    host: str
    user: str | None
    traceparent: str | None = None

    @property
    def names(self) -> tuple[str, str, str]:
        """What is written down of it."""
        return self.host, self.user or "", self.request.address

    @property
    def listed(self) -> tuple[str | bytes, ...]:
        """What the roster has of it."""
        return *self.names, self.request.source_key


@dataclass(frozen=True, slots=True)
class SendOnlyJoiner:
    """Likewise of a host that is to send without being a member."""

    token: object
    request: RegisterSenderRequest
    request_hash: bytes
    host: str
    user: str | None
    traceparent: str | None = None

    @property
    def names(self) -> tuple[str, str, str]:
        """What is written down of it."""
        return self.host, self.user or "", self.request.address

    @property
    def listed(self) -> tuple[str | bytes, ...]:
        """What the roster has of it."""
        return *self.names, self.request.source_key


@dataclass(frozen=True, slots=True)
class Adoption:
    """A member that a distributor has welcomed; the token is of the distributor's report."""

    joiner: Joiner
    sender_id: int
    distributor: str

    @property
    def keyed_elsewhere(self) -> bool:
        """The distributor is another domain's Authorizer, under whose keys this member is."""
        return "/authorizer/" in self.distributor

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
    dismissed: list[Joiner | SendOnlyJoiner] = field(default_factory=list)  # left or were thrown out while they waited
    send_only: dict[str, SendOnlyJoiner] = field(default_factory=dict)  # by host
    send_only_ending: set[str] = field(default_factory=set)  # hosts
    claims: dict[str, str] = field(default_factory=dict)  # addresses that hosts are about to send from
    leaving: set[str] = field(default_factory=set)  # hosts
    users_leaving: dict[str, set[str]] = field(default_factory=dict)  # by host
    ejected: set[str] = field(default_factory=set)  # of these hosts, those that somebody is thrown off
    ejecting: bool = False  # somebody is thrown out, be it known as a member or not
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

    @property
    def waiting(self) -> list[Joiner | SendOnlyJoiner]:
        """All that ask to be let in."""
        return [*self.joiners.values(), *self.send_only.values()]

    def join(self, joiner: Joiner) -> Joiner | None:
        """One more; returns the one of the same host whose place it takes."""
        self.dismiss_send_only(joiner.host)
        superseded = self.joiners.pop(joiner.host, None)
        adoption = self.adopting.pop(joiner.host, None)
        if adoption is not None:
            self.then.append(adoption.answer(adopted=False))
        self.joiners[joiner.host] = joiner
        return superseded

    def join_send_only(self, joiner: SendOnlyJoiner) -> None:
        """One more that is to send and be no member; what the same host asked for before it has thereby given up."""
        self.dismiss(joiner.host)
        self.send_only[joiner.host] = joiner

    def forget_members(self) -> None:
        """There are none any more that could leave."""
        self.leaving.clear()
        self.users_leaving.clear()
        self.ejected.clear()
        self.adopting.clear()  # who reported them reports again
        self.send_only_ending.clear()
        self.somebody_left = False

    def dismiss(self, host: str) -> None:
        """A joiner that isn't to join any more, where there is one."""
        self.dismiss_send_only(host)
        joiner = self.joiners.pop(host, None)
        if joiner is not None:
            self.dismissed.append(joiner)
        adoption = self.adopting.pop(host, None)
        if adoption is not None:
            self.leave_out(adoption, Refused("dismissed", "membership", "the newcomer left, or was thrown out"))

    def dismiss_send_only(self, host: str) -> None:
        """Likewise one that is to send only."""
        joiner = self.send_only.pop(host, None)
        if joiner is not None:
            self.dismissed.append(joiner)

    def leave_out(self, adoption: Adoption, refused: Refused) -> None:
        """Not adopted: it has the key all the same, so that there has to be another one."""
        self.adopting.pop(adoption.joiner.host, None)
        self.somebody_left = True
        self.then.append(adoption.refuse(refused))

    def split(self, now: float, members: Members) -> Batch:
        """What is too much for one flush, due at once: who was thrown out goes first, then who leaves, then who joins.

        Whoever waits for all of it hears when the last of it is done.
        """
        room, later = Room(), Batch(traceparent=self.traceparent)
        for host in self._ejected_first(self.leaving):
            if not room.take([host, *_users(host, members)], leaves=True):
                self.leaving.remove(host)
                later.leaving.add(host)
        for host in self._ejected_first(self.users_leaving):
            if not room.take([host, *_users(host, members)], leaves=True):
                later.users_leaving[host] = self.users_leaving.pop(host)
        for host, joiner in list(self.joiners.items()):
            if not room.take([*joiner.names, *_users(host, members)], leaves=host in members):
                later.join(self.joiners.pop(host))
        for host in sorted(self.send_only_ending):
            if not room.take([host], leaves=False):
                self.send_only_ending.remove(host)
                later.send_only_ending.add(host)
        for host, sender in list(self.send_only.items()):
            if not room.take(sender.names, leaves=False):
                later.send_only[host] = self.send_only.pop(host)
        if later.leaving or later.users_leaving or later.waiting or later.send_only_ending:
            later.due(now)
            later.ejected = self.ejected & (later.leaving | later.users_leaving.keys())
            later.ejecting = bool(later.ejected)
            later.claims = dict(self.claims)
            later.then, self.then = self.then, []
        return later

    def take_users_off(self, members: Members) -> tuple[set[str], list[str]]:
        """Hosts that stay with other users, and who departed: where somebody is thrown out, only those that are. A host
        goes with its last user."""
        changed, departed = set(), list[str]()
        for host, users in self.users_leaving.items():
            member = members.get(host)
            if member is None or host in self.leaving:
                continue
            departed += sorted(member.users & users) if self._tells_of(host) else []
            if member.users <= users:
                self.leaving.add(host)
            else:
                member.users -= users
                members.put(member)
                changed.add(host)
        for host in sorted(self.leaving):
            member = members.get(host)
            departed += sorted(member.users) if member is not None and self._tells_of(host) else []
        return changed, list(dict.fromkeys(departed))

    def _tells_of(self, host: str) -> bool:
        """The update names who departs from it: who only leaves, or is silent, isn't named among those thrown out."""
        return host in self.ejected or not self.ejecting

    def _ejected_first(self, hosts: Iterable[str]) -> list[str]:
        return sorted(hosts, key=lambda host: (host not in self.ejected, host))


def _users(host: str, members: Members) -> Iterable[str]:
    member = members.get(host)
    return () if member is None else member.users
