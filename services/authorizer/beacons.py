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
from services.authorizer.events import DropSender, InstallSender, SendToGroup, Tell
from services.authorizer.group import Flushed, Group

RECALL_FOR = 120.0  # seconds that a restarted Authorizer tells its new epochs to members that it doesn't know of
REPEATS_AFTER = (0.05, 0.15)  # seconds after an update at which it is repeated on the multicast


@dataclass(frozen=True, slots=True)
class _Retiring:
    group_id: bytes
    epoch: int
    at: float


@dataclass(frozen=True, slots=True)
class _Repeat:
    group_id: bytes
    epoch: int
    payload: bytes
    at: float


class Beacons:
    """See the module."""

    def __init__(self, credentials: Credentials, random: Random) -> None:
        self._credentials = credentials
        self._random = random
        self._beacon_at: dict[bytes, float] = {}
        self._recalling_until: dict[bytes, float] = {}
        self._recalling_all_until = 0.0
        self._retiring: list[_Retiring] = []
        self._repeats: list[_Repeat] = []

    def recall(self, now: float) -> None:
        """This process has just begun: there may be members that it doesn't know of."""
        self._recalling_all_until = now + RECALL_FOR

    def begin(self, group: Group, now: float) -> list[Any]:
        """A new group is served."""
        self._beacon_at[group.id] = now
        return [InstallSender(group.domain, group.description, group.epoch, group.key, group.own_sender_id)]

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
            self._repeats += [
                _Repeat(group.id, flushed.under_epoch, flushed.update, now + after) for after in REPEATS_AFTER
            ]
        if group.told.epoch != flushed.under_epoch:
            effects.append(InstallSender(group.domain, group.description, group.epoch, group.key, group.own_sender_id))
            self._retiring.append(_Retiring(group.id, flushed.under_epoch, now + max(REPEATS_AFTER) + 0.1))
            self._beacon_at[group.id] = now
        return effects

    def end(self, group: Group) -> list[Any]:
        """A group isn't served any more."""
        self._beacon_at.pop(group.id, None)
        self._recalling_until.pop(group.id, None)
        epochs = {group.told.epoch} | {retiring.epoch for retiring in self._retiring if retiring.group_id == group.id}
        self._retiring = [retiring for retiring in self._retiring if retiring.group_id != group.id]
        self._repeats = [repeat for repeat in self._repeats if repeat.group_id != group.id]
        return [DropSender(group.id, epoch) for epoch in sorted(epochs)]

    def woken(self, groups: Mapping[bytes, Group], now: float) -> list[Any]:
        """What is due."""
        effects: list[Any] = []
        for group_id, at in list(self._beacon_at.items()):
            if now >= at:
                effects += self._beacon(groups[group_id], now)
        for repeat in [repeat for repeat in self._repeats if now >= repeat.at]:
            self._repeats.remove(repeat)
            effects.append(SendToGroup(repeat.group_id, repeat.epoch, repeat.payload))
        for retiring in [retiring for retiring in self._retiring if now >= retiring.at]:
            self._retiring.remove(retiring)
            effects.append(DropSender(retiring.group_id, retiring.epoch))
        return effects

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        times = [*self._beacon_at.values(), *(retiring.at for retiring in self._retiring)]
        return min([*times, *(repeat.at for repeat in self._repeats)], default=None)

    def _beacon(self, group: Group, now: float) -> list[Any]:
        self._beacon_at[group.id] = now + group.policy.beacon_ms / 1000
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
