"""What a group is told by itself: updates, repeated on the multicast (`pacing.py`), and beacons. Sans-I/O.

Only what is stored is told (`Group.told`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcsa.envelope import sign_envelope
from mcsa.identity import Credentials
from mcsa.keys import Random
from mcsa.updates import UPDATE_LIFETIME, beacon_message, group_recipient, update_message
from mcsa.v1.authorizer_pb2 import Beacon
from services.authorizer.agenda import Agenda
from services.authorizer.events import DropSender, InstallSender, SendToGroup, Tell
from services.authorizer.group import Flushed, Group
from services.authorizer.pacing import PacedUpdates

RECALL_FOR = 120.0  # seconds that a restarted Authorizer tells its new epochs to members that it doesn't know of


class Beacons:
    """See the module."""

    def __init__(self, credentials: Credentials, random: Random) -> None:
        self._credentials = credentials
        self._random = random
        self._agenda: Agenda[bytes] = Agenda()  # groups' beacons
        self._recalling_until: dict[bytes, float] = {}
        self._recalling_all_until = 0.0
        self._paced = PacedUpdates()
        self._retiring: set[tuple[bytes, int]] = set()  # groups' old epochs, in which an update is still being sent

    def recall(self, now: float) -> None:
        """This process has just begun: there may be members that it doesn't know of."""
        self._recalling_all_until = now + RECALL_FOR

    def begin(self, group: Group, now: float) -> list[Any]:
        """A new group is served."""
        self._agenda.set(group.id, now)
        return [InstallSender(group.domain, group.description, group.epoch, group.key, group.own_sender_id)]

    def begin_anew(self, group: Group, old_epoch: int, now: float) -> list[Any]:
        """A group has begun anew: those that were its members have to learn it."""
        self._recalling_until[group.id] = now + RECALL_FOR
        return [DropSender(group.id, old_epoch), *self.begin(group, now)]

    def updated(self, group: Group, flushed: Flushed, now: float) -> list[Any]:
        """A flush is stored: its update, on both ways, and the sender of a new epoch."""
        effects: list[Any] = []
        if flushed.update:
            effects.append(Tell(group.id, update_message(flushed.update), flushed.traceparent))
            if group.policy.multicast_updates:
                effects += self._paced.begin(group.id, flushed.under_epoch, group.told.number, flushed.update, now)
        if group.told.epoch != flushed.under_epoch:
            effects.append(InstallSender(group.domain, group.description, group.epoch, group.key, group.own_sender_id))
            self._retiring.add((group.id, flushed.under_epoch))
            self._agenda.set(group.id, now)
        return effects + self._retire()

    def end(self, group: Group) -> list[Any]:
        """A group isn't served any more. What is still to be repeated to it isn't sent: there is no sender for it."""
        self._agenda.remove(group.id)
        self._recalling_until.pop(group.id, None)
        self._paced.end(group.id)
        return [*self._retire(), DropSender(group.id, group.told.epoch)]

    def woken(self, groups: Mapping[bytes, Group], now: float) -> list[Any]:
        """What is due."""
        effects: list[Any] = []
        for group_id in self._agenda.due(now):
            effects += self._beacon(groups[group_id], now)
        return [*effects, *self._paced.woken(now), *self._retire()]

    def _retire(self) -> list[Any]:
        """Senders of old epochs that have said all."""
        done = sorted(old for old in self._retiring if not self._paced.pending(*old))
        self._retiring.difference_update(done)
        return [DropSender(group_id, epoch) for group_id, epoch in done]

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        times = (self._agenda.next_at(), self._paced.wake_at())
        return min((at for at in times if at is not None), default=None)

    def _beacon(self, group: Group, now: float) -> list[Any]:
        self._agenda.set(group.id, now + group.policy.beacon_ms / 1000)
        recalling = now < max(self._recalling_all_until, self._recalling_until.get(group.id, 0.0))
        if not (len(group.members) or len(group.send_only) or recalling):
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
        message = beacon_message(raw)
        return [Tell(group.id, message), SendToGroup(group.id, told.epoch, message)]
