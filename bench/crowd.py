"""A thousand members in few processes: what each does with a rekey, without an event loop and threads for each.

A member is an MSM's own membership and packet path. `VERIFY` is what gives the new key and no more: the update opened,
its signature checked, the key unwrapped. `INSTALL` is all that an MSM does until its packet path has the key.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
from collections.abc import Sequence
from enum import IntEnum
from time import monotonic, perf_counter, sleep, time

from bench.rekeys import DOMAIN, Rekeys
from mcsa.gkm import Member as KeyMember
from mcsa.membership import Changed, Membership, RepairWanted
from mcsa.updates import open_update, parse_message, parse_update, update_key
from services.msm.events import GroupMessage
from services.msm.path import GroupPath

LABEL = "mcsa bench v1"
WITHIN = 10.0  # seconds that a round may take
LOOK_EACH = 0.002  # seconds between looks at the board

Fork = multiprocessing.get_context("fork")


class Kind(IntEnum):
    """What members do with what they get."""

    RECEIVE = 0  # they have it
    CHECK = 1  # each process checks as many bare signatures as it has members
    VERIFY = 2
    INSTALL = 3


class Board:
    """When each member was done, and how long each process checked signatures; shared with processes forked later."""

    def __init__(self, members: int, processes: int) -> None:
        self._kind = Fork.RawValue(ctypes.c_int, Kind.RECEIVE)
        self.done_at = Fork.RawArray(ctypes.c_double, members)
        self.check_seconds = Fork.RawArray(ctypes.c_double, processes)

    @property
    def kind(self) -> Kind:
        """Of the round."""
        return Kind(self._kind.value)

    def begin(self, kind: Kind) -> None:
        """A round."""
        self._kind.value = kind
        ctypes.memset(self.done_at, 0, ctypes.sizeof(self.done_at))

    def last_at(self) -> float:
        """When the last member was done, once it is (CLOCK_MONOTONIC); TimeoutError where one got nothing."""
        give_up_at = monotonic() + WITHIN
        while min(self.done_at) == 0:
            if monotonic() > give_up_at:
                raise TimeoutError(f"{self.done_at[:].count(0)} members got nothing")
            sleep(LOOK_EACH)
        last: float = max(self.done_at)
        return last


class Member:
    """One member twice: the key alone, and all of an MSM's part in the group."""

    def __init__(self, rekeys: Rekeys, number: int) -> None:
        group, joining, association = rekeys.group, rekeys.joining[number], rekeys.association(number)
        self._rekeys = rekeys
        self._key_member: KeyMember = joining.finish(association.gkm_welcome)
        self._epoch = association.epoch
        self._path = GroupPath(DOMAIN, group)
        self._membership = Membership(group, str(rekeys.authorizer.id), "", b"", "", rekeys.trust, os.urandom)
        for effect in self._membership.install(joining, association, time()):
            self._path.carry_out(effect, time())

    def open(self, datagram: bytes, source: str) -> bytes:
        """The update in a datagram."""
        [opened] = self._path.open(datagram, source, time())
        assert isinstance(opened, GroupMessage)
        return opened.payload

    def verify(self, raw: bytes) -> None:
        """See `Kind.VERIFY`."""
        sealed = parse_update(parse_message(raw).update)
        key = update_key(self._key_member.key, sealed.group_id, self._epoch)
        update = open_update(sealed, key, self._rekeys.trust, str(self._rekeys.authorizer.id), time())
        self._key_member.process(update.gkm_rekey)
        self._epoch = update.epoch

    def install(self, raw: bytes) -> None:
        """See `Kind.INSTALL`."""
        now = time()
        for effect in self._membership.message_arrived(raw, now):
            if not isinstance(effect, Changed | RepairWanted):
                self._path.carry_out(effect, now)


class Crowd:
    """The members of one process."""

    def __init__(self, rekeys: Rekeys, numbers: Sequence[int], process: int, board: Board) -> None:
        self.numbers = numbers
        self._process = process
        self._board = board
        self._members = {number: Member(rekeys, number) for number in numbers}
        self._identity = rekeys.authorizer.identity
        self._signed = os.urandom(1_200)  # as long as an update
        self._signature = rekeys.authorizer.sign(LABEL, self._signed)
        self._waiting: list[tuple[Member, bytes]] = []
        self._arrived = 0

    def datagram_arrived(self, number: int, datagram: bytes, source: str) -> None:
        """By multicast."""
        opens = self._board.kind in (Kind.VERIFY, Kind.INSTALL)
        self.update_arrived(number, self._members[number].open(datagram, source) if opens else datagram)

    def update_arrived(self, number: int, raw: bytes) -> None:
        """By the bus, or out of a datagram; notes when this member is done with it."""
        member, kind = self._members[number], self._board.kind
        if kind is Kind.CHECK and self._arrived == 0:
            self._board.check_seconds[self._process] = self._check()
        elif kind is Kind.VERIFY:
            member.verify(raw)
        elif kind is Kind.INSTALL:
            member.install(raw)
        self._arrived += 1
        done_at = monotonic()
        if kind in (Kind.VERIFY, Kind.INSTALL):
            self._waiting.append((member, raw))
        if self._arrived == len(self._members):
            self._catch_up(kind)
        self._board.done_at[number] = done_at

    def _check(self) -> float:
        started_at = perf_counter()
        for _ in self._members:
            self._identity.check_signature(self._signature, LABEL, self._signed)
        return perf_counter() - started_at

    def _catch_up(self, kind: Kind) -> None:
        """The half of each member that was not measured follows, before anybody hears that the last was done."""
        for member, raw in self._waiting:
            (member.install if kind is Kind.VERIFY else member.verify)(raw)
        self._waiting, self._arrived = [], 0
