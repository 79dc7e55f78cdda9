"""What a group is told by itself: updates, repeated on the multicast, and beacons. Sans-I/O.

Only what is stored is told (`Group.told`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcsa.envelope import sign_envelope
from mcsa.identity import Credentials
from mcsa.keys import Random
from mcsa.updates import UPDATE_LIFETIME, group_recipient
from mcsa.v1.authorizer_pb2 import Beacon
from services.authorizer.agenda import Agenda
from services.authorizer.events import DropSender, InstallSender, SendToGroup, Tell
from services.authorizer.group import Flushed, Group

RECALL_FOR = 120.0  # seconds that a restarted Authorizer tells its new epochs to members that it doesn't know of
REPEATS_AFTER = (0.05, 0.15)  # seconds after an update at which it is repeated on the multicast


@dataclass(frozen=True, slots=True)
class _Retiring:
    group_id: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class _Repeat:
    group_id: bytes
    epoch: int
    payload: bytes
    after: float


class Beacons:
    """See the module."""

    def __init__(self, credentials: Credentials, random: Random) -> None:
        self._credentials = credentials
        self._random = random
        self._agenda: Agenda[bytes | _Retiring | _Repeat] = Agenda()  # a group's id: its beacon
        self._recalling_until: dict[bytes, float] = {}
        self._recalling_all_until = 0.0
        self._retiring: dict[bytes, set[int]] = {}  # epochs, by group

    def recall(self, now: float) -> None:
        """This process has just begun: there may be members that it doesn't know of."""
        self._recalling_all_until = now + RECALL_FOR

    def begin(self, group: Group, now: float) -> list[Any]:
        """A new group is served."""
        self._agenda.set(group.id, now)
        return [InstallSender(group.description, group.epoch, group.key, group.own_sender_id)]

    def begin_anew(self, group: Group, old_epoch: int, now: float) -> list[Any]:
        """A group has begun anew: those that were its members have to learn it."""
        self._recalling_until[group.id] = now + RECALL_FOR
        return [DropSender(group.id, old_epoch), *self.begin(group, now)]

    def updated(self, group: Group, flushed: Flushed, now: float) -> list[Any]:
        """A flush is stored: its update, now and again, and the sender of a new epoch."""
        effects: list[Any] = []
        if flushed.update:
            effects.append(Tell(group.id, flushed.update, flushed.traceparent))
            effects.append(SendToGroup(group.id, flushed.under_epoch, flushed.update))
            for after in REPEATS_AFTER:
                self._agenda.set(_Repeat(group.id, flushed.under_epoch, flushed.update, after), now + after)
        if group.told.epoch != flushed.under_epoch:
            effects.append(InstallSender(group.description, group.epoch, group.key, group.own_sender_id))
            self._retiring.setdefault(group.id, set()).add(flushed.under_epoch)
            self._agenda.set(_Retiring(group.id, flushed.under_epoch), now + max(REPEATS_AFTER) + 0.1)
            self._agenda.set(group.id, now)
        return effects

    def end(self, group: Group) -> list[Any]:
        """A group isn't served any more. What is still to be repeated to it isn't sent: there is no sender for it."""
        self._agenda.remove(group.id)
        self._recalling_until.pop(group.id, None)
        epochs = {group.told.epoch} | self._retiring.pop(group.id, set())
        return [DropSender(group.id, epoch) for epoch in sorted(epochs)]

    def woken(self, groups: Mapping[bytes, Group], now: float) -> list[Any]:
        """What is due."""
        effects: list[Any] = []
        for what in self._agenda.due(now):
            match what:
                case _Retiring():
                    effects += self._retire(what)
                case _Repeat():
                    effects.append(SendToGroup(what.group_id, what.epoch, what.payload))
                case group_id:
                    effects += self._beacon(groups[group_id], now)
        return effects

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        return self._agenda.next_at()

    def _retire(self, what: _Retiring) -> list[Any]:
        epochs = self._retiring.get(what.group_id, set())
        if what.epoch not in epochs:  # the group has ended meanwhile
            return []
        epochs.remove(what.epoch)
        return [DropSender(what.group_id, what.epoch)]

    def _beacon(self, group: Group, now: float) -> list[Any]:
        self._agenda.set(group.id, now + group.policy.beacon_ms / 1000)
        recalling = now < max(self._recalling_all_until, self._recalling_until.get(group.id, 0.0))
        if not len(group.members) and not recalling:
            return []
        told = group.told
        beacon = Beacon(
            group_id=group.id,
            epoch=told.epoch,
            update_number=told.number,
            time_ms=round(now * 1000),
            next_sender_id=told.next_sender_id,
        )
        raw, _ = sign_envelope(
            self._credentials, beacon, group_recipient(group.id), self._random(16), now + UPDATE_LIFETIME
        )
        return [Tell(group.id, raw), SendToGroup(group.id, told.epoch, raw)]
