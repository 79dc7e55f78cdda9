"""Changes of an Authorizer's groups: stored in the group's log first, then told and answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mcsa.endpoint import Answer, Count, Refuse
from mcsa.errors import Refused
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.authorizer_log_pb2 import ConferenceRecord, GroupRecord
from services.authorizer import alarms
from services.authorizer.conference import conference_log, group_log
from services.authorizer.group import Flushed, Group
from services.authorizer.group_state import AGENT
from services.authorizer.groups_served import GroupsServed, moved
from services.authorizer.journal import MAX_ENTRY, Then


class GroupsFlushed(GroupsServed):
    """See the module."""

    def commit(self, log: str, record: ConferenceRecord | GroupRecord, then: Then, now: float) -> list[Any]:
        """See `Journal.commit`."""
        self._snapshots.appended(log, record.ByteSize(), now)
        return self.journal.commit(log, record, then)

    def appended(self, log: str, now: float) -> list[Any]:
        """A record is stored."""
        return self.journal.appended(log, now)

    def flush_if_due(self, group: Group, now: float) -> list[Any]:
        """Carries out a group's batch, where its time has come and no record of the group is under way."""
        effects = self._flush_if_due(group, now)
        self.schedule(group)
        return effects

    def _flush_if_due(self, group: Group, now: float) -> list[Any]:
        log = group_log(group.id)
        due = (group.batch.due_at is not None and now >= group.batch.due_at) or now >= group.rekey_at
        if not due or self.journal.busy(log) or self.groups.get(group.id) is not group:
            return []
        if group.is_out_of_sender_ids:
            return [Count("sender-ids.exhausted"), *self.begin_anew(group, now)]
        flushed = group.flush(now)
        if flushed.record.ByteSize() > MAX_ENTRY:
            return self._outgrown(group, flushed, now)
        return self.commit(log, flushed.record, lambda later: self._flushed(group, flushed, later), now)

    def _flushed(self, group: Group, flushed: Flushed, now: float) -> list[Any]:
        group.committed()
        effects = self._beacons.updated(group, flushed, now)
        for joiner, sealed in flushed.associations:
            effects.append(Answer(joiner.token, wire.RegisterResponse(sealed_gsa=sealed)))
        for sender, sealed in flushed.sending:
            effects.append(Answer(sender.token, wire.RegisterSenderResponse(sealed_association=sealed)))
        for dismissed in flushed.dismissed:
            effects.append(Refuse(dismissed.token, _dismissed()))
        for then in flushed.then:
            effects += then(now)
        effects += [Count("flushes"), *self.flush_if_due(group, now)]
        return effects + self._settle(group, now)

    def _settle(self, group: Group, now: float) -> list[Any]:
        """A change in one subgroup may be one in others."""
        backbone, _ = self.conferences[group.conference_id].place_of(group.id)
        star = self._stars.get(group.id if backbone is None else backbone.group_id)
        others = [] if star is None else star.settle(now)
        return [effect for other in others for effect in self.flush_if_due(other, now)]

    def begin_anew(
        self, group: Group, now: float, after: wire.Beacon | None = None, then: Iterable[Then] = ()
    ) -> list[Any]:
        """All keys are replaced and all members have to register again, see `Group.begin_anew`; calls `then` once that
        is stored."""
        log = group_log(group.id)
        if self.journal.busy(log):  # what is under way is no longer true; who waits for it asks again
            self.journal.give_up(log)
            conference = self.conferences[group.conference_id]
            given_up = [*self._give_up(group, now, after), *self._give_up_conference(conference, now)]
            return [*given_up, *self._given_up.load(conference_log(conference.id))]
        old_epoch = group.told.epoch
        record = group.begin_anew(now, after)

        def stored(later: float) -> list[Any]:
            group.committed()
            answers = [effect for done in then for effect in done(later)]
            effects = [*self._beacons.begin_anew(group, old_epoch, later), *answers, *self.flush_if_due(group, later)]
            return effects + self._settle(group, later)

        self._snapshots.begin(log, now)
        return self.journal.commit(log, record, stored, whole=True)

    def _outgrown(self, group: Group, flushed: Flushed, now: float) -> list[Any]:
        """The change can be neither stored nor told in one message. Who was to go goes all the same."""
        refused = [Refuse(joiner.token, moved()) for joiner, _ in flushed.associations]
        refused += [Refuse(sender.token, moved()) for sender, _ in flushed.sending]
        refused += [Refuse(joiner.token, _dismissed()) for joiner in flushed.dismissed]
        effects = [alarms.outgrown(group.id, flushed.record.ByteSize(), group.policy.gkm), *refused]
        return effects + self.begin_anew(group, now, then=flushed.then)

    def eject(self, groups: Iterable[Group], subject: str, now: float) -> list[Group]:
        """Throws a host or a user out of groups; returns those in which that changes anything."""
        touched = [group for group in groups if _remover(group, subject)(subject, now, eject=True)]
        backbones = [backbone for group in touched if (backbone := self._eject_agent(group, now)) is not None]
        return list({group.id: group for group in (*touched, *backbones)}.values())

    def _eject_agent(self, group: Group, now: float) -> Group | None:
        """An agent that is thrown out of its subgroup is thrown out of the backbone with it, not after it."""
        backbone, _ = self.conferences[group.conference_id].place_of(group.id)
        joined = None if backbone is None or not group.agent_goes else self.groups.get(backbone.group_id)
        return joined if joined is not None and joined.remove_host(group.agent + AGENT, now, eject=True) else None


def _remover(group: Group, subject: str) -> Callable[..., bool]:
    return group.remove_host if "/host/" in subject else group.remove_user


def _dismissed() -> Refused:
    sentence = "the user left, was thrown out, or its host asked for something else, before the registration was done"
    return Refused("dismissed", "membership", sentence)
