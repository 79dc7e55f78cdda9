"""All conferences and groups of an Authorizer: created, kept in their logs, flushed, ended. Sans-I/O.

What becomes of a group's log, and what of the group then:

    a log that this process reads        -> restored; a fresh key and epoch, sender IDs skipped, members go on
    its end is missing or unreadable     -> an alarm; the group begins anew, members register again
    another process has written to it    -> this process gives the conference up: it doesn't know who was thrown out
                                            meanwhile; who asks for it makes it read the logs again
    a member shows our own later word    -> an alarm; the group begins anew (`core.py`)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from mcsa.endpoint import Answer, Count, Refuse
from mcsa.errors import Refused, Rejected
from mcsa.gkm import scheme_named
from mcsa.identity import Credentials
from mcsa.keys import Random
from mcsa.networks import Networks
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.authorizer_log_pb2 import ConferenceRecord, GroupRecord, Subgroup
from mcsa.v1.types_pb2 import GroupDescription
from services.authorizer import alarms
from services.authorizer.addresses import AddressPools, speaks_from
from services.authorizer.agenda import Agenda
from services.authorizer.beacons import Beacons
from services.authorizer.conference import LOG_PREFIX, Conference, conference_log, group_log
from services.authorizer.events import EndLog, Loaded, TakeSnapshot
from services.authorizer.given_up import STAND_BY, GivenUp
from services.authorizer.group import Flushed, Group
from services.authorizer.group_state import AGENT
from services.authorizer.journal import MAX_ENTRY, Gate, Journal, Then
from services.authorizer.setting import Setting
from services.authorizer.snapshots import SnapshotTimes
from services.authorizer.subgroups import Star, sender_ids_of

EMPTY_FOR = 3_600.0  # seconds without a member after which a conference is forgotten


class Groups:
    """See the module."""

    def __init__(
        self,
        credentials: Credentials,
        random: Random,
        networks: Networks,
        pools: AddressPools,
        distributors: Sequence[str] = (),
    ) -> None:
        self._credentials = credentials
        self._pools = pools
        self._distributors = distributors
        self._random = random
        self._networks = networks
        self.journal = Journal()
        self._snapshots = SnapshotTimes()
        self._beacons = Beacons(credentials, random)
        self._agenda: Agenda[bytes] = Agenda()  # groups, by id
        self.conferences: dict[bytes, Conference] = {}
        self.groups: dict[bytes, Group] = {}
        self._beginning: dict[bytes, Group] = {}  # their records are on the way
        self._stars: dict[bytes, Star] = {}  # by the backbone's id
        self._creating: dict[bytes, list[Then]] = {}
        self._empty_since: dict[bytes, float] = {}
        self._given_up = GivenUp()

    # ---- looking up

    def find_group(self, group_id: bytes) -> Group:
        """`Refused` where it isn't served here."""
        group = self.groups.get(group_id)
        if group is not None:
            return group
        if group_id in self._given_up:
            raise _moved()
        sentence = "this Authorizer has no such group: it was never created here, or has ended"
        raise Refused("unknown-group", "group", sentence)

    def find_conference(self, conference_id: bytes) -> Conference:
        """`Refused` where there is none."""
        conference = self.conferences.get(conference_id)
        if conference is None and self._given_up.has_conference(conference_id):
            raise _moved()
        if conference is None or conference_id in self._creating:
            raise Refused("unknown-conference", "conference", "this Authorizer has no such conference")
        return conference

    def addresses(self) -> list[str]:
        """Of all groups, and those that groups are moving to."""
        found = [group.address for conference in self.conferences.values() for group in conference.all_groups()]
        return found + [address for conference in self.conferences.values() for address in conference.moving_to]

    def has(self, group: Group) -> bool:
        """It is served, or about to be, and hasn't been given up."""
        return self.groups.get(group.id) is group or self._beginning.get(group.id) is group

    def groups_of(self, conference: Conference) -> list[Group]:
        """All of a conference's, subgroups too. `Refused` where one isn't served here."""
        ids = _ids(conference)
        return [self._beginning[id_] if id_ in self._beginning else self.find_group(id_) for id_ in ids]

    def star(self, group_id: bytes) -> Star | None:
        """A group's subgroups, where it is of a protocol that has them."""
        return self._stars.get(group_id)

    # ---- beginning

    def create(self, conference: Conference, now: float) -> list[Any]:
        """A new conference. Its groups' logs come first: one without its conference's is nobody's."""
        self.conferences[conference.id] = conference
        self._creating[conference.id] = []
        groups = [self._new_group(conference, description, now) for description in conference.groups]
        self._beginning.update({group.id: group for group in groups})

        def all_stored(later: float) -> list[Any]:
            return self.journal.commit(
                conference_log(conference.id), conference.record(), lambda at: self._created(conference.id, groups, at)
            )

        gate = Gate(all_stored)
        effects: list[Any] = []
        for group in groups:
            record = GroupRecord(snapshot=group.snapshot())
            effects += self.journal.commit(group_log(group.id), record, gate.wait())
        return effects + gate.close(now)

    def once_created(self, conference_id: bytes, then: Then, now: float) -> list[Any]:
        """Calls `then` once the conference's records are stored."""
        if conference_id in self._creating:
            self._creating[conference_id].append(then)
            return []
        return list(then(now))

    def _created(self, conference_id: bytes, groups: list[Group], now: float) -> list[Any]:
        self._snapshots.begin(conference_log(conference_id), now)
        effects: list[Any] = []
        for group in groups:
            self._serve(group, now)
            self._put_into_star(self.conferences[conference_id], group)
            effects += self._beacons.begin(group, now)
        for then in self._creating.pop(conference_id):
            effects += then(now)
        return effects

    def _new_group(self, conference: Conference, description: GroupDescription, now: float) -> Group:
        setting = self._setting(conference, description)
        return Group(setting, setting.gkm(), now)

    def _setting(self, conference: Conference, description: GroupDescription) -> Setting:
        backbone, index = conference.place_of(description.group_id)
        setting = Setting(
            description,
            conference.id,
            conference.signed,
            self._credentials,
            speaks_from(self._networks, description.address),
            self._random,
            conference.access_list,
            self._distributors,
        )
        if not scheme_named(description.policy.gkm).subgroups:
            return setting
        return replace(setting, backbone=backbone, sender_ids=sender_ids_of(index))

    def _put_into_star(self, conference: Conference, group: Group) -> None:
        """Where the group's protocol has subgroups."""
        if scheme_named(group.policy.gkm).subgroups:
            backbone, _ = conference.place_of(group.id)
            backbone = backbone or group.description
            self._stars.setdefault(backbone.group_id, Star(backbone)).put(group)

    def place(self, group_id: bytes, host: str, now: float) -> tuple[Group, list[Any]]:
        """The subgroup for a host that asks for this group, and what comes of a new one that has to be made for it.

        Any other group is its own only one. `Refused` as `find_group`, where a host would choose its subgroup itself,
        and where no subgroup can be added.
        """
        group = self.find_group(group_id)
        self._check_not_subgroup(group)
        star = self._stars.get(group_id)
        if star is None or host.endswith(AGENT):
            return group, []
        ended = self.flush_if_due(group, now) if group.end_sending([host], now) else []
        home = star.home_of(host) or star.with_room()
        if home is None:
            home, effects = self._add_subgroup(star, self.find_conference(group.conference_id), group_id, now)
            return home, [*ended, *effects]
        return (home if self.has(home) else self.find_group(home.id)), ended

    def place_send_only(self, group_id: bytes, host: str, now: float) -> tuple[Group, list[Any]]:
        """The group for a host that asks to send to this one without being a member: of a protocol of subgroups the
        backbone, whence agents carry it on; a member of another subgroup it is no longer. `Refused` as `place`."""
        group = self.find_group(group_id)
        self._check_not_subgroup(group)
        star = self._stars.get(group_id)
        home = None if star is None else star.home_of(host)
        if home is None or home is group:
            return group, []
        home.remove_host(host, now)
        return group, self.flush_if_due(home, now)

    def _check_not_subgroup(self, group: Group) -> None:
        if self.conferences[group.conference_id].place_of(group.id)[0] is not None:
            raise Refused("not-allowed", "subgroups", "which subgroup a host is in is not its own to choose")

    def _add_subgroup(
        self, star: Star, conference: Conference, backbone_id: bytes, now: float
    ) -> tuple[Group, list[Any]]:
        """Its log comes first, then the conference's knows of it, then it is served."""
        description = star.next_description()
        description.ClearField("address")
        description.address = self._pools.give(description, description.group_id, set(self.addresses()))
        subgroup = Subgroup(backbone_id=backbone_id, group=description)
        conference.subgroups.append(subgroup)
        group = self._new_group(conference, description, now)
        self._beginning[group.id] = group
        star.put(group)
        log, record = conference_log(conference.id), ConferenceRecord(subgroups=[subgroup])

        def known(later: float) -> list[Any]:
            self._serve(group, later)
            return [*self._beacons.begin(group, later), *self.flush_if_due(group, later)]

        def stored(later: float) -> list[Any]:
            return self.commit(log, record, known, later)

        return group, self.journal.commit(group_log(group.id), GroupRecord(snapshot=group.snapshot()), stored)

    def _serve(self, group: Group, now: float) -> None:
        self.groups[group.id] = group
        self._beginning.pop(group.id, None)
        self.schedule(group)
        self._snapshots.begin(group_log(group.id), now)

    # ---- changes

    def commit(self, log: str, record: ConferenceRecord | GroupRecord, then: Then, now: float) -> list[Any]:
        """See `Journal.commit`."""
        self._snapshots.appended(log, record.ByteSize(), now)
        return self.journal.commit(log, record, then)

    def flush_if_due(self, group: Group, now: float) -> list[Any]:
        """Carries out a group's batch, where its time has come and no record of the group is under way."""
        effects = self._flush_if_due(group, now)
        self.schedule(group)
        return effects

    def schedule(self, group: Group) -> None:
        """To be called when something has changed of what is due to a group, and when."""
        if self.groups.get(group.id) is group:
            self._agenda.set(group.id, group.next_at(busy=self.journal.busy(group_log(group.id))))

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

    def move(self, conference: Conference, addresses: Sequence[str], then: Then, now: float) -> list[Any]:
        """Its groups get other addresses: stored first, then each group begins anew there, and its members register
        again. Calls `then` once all of it is stored. `Refused` where there are members that couldn't follow."""
        groups = self.groups_of(conference)
        if conference.subgroups or any("/authorizer/" in member.host for group in groups for member in group.members):
            raise Refused("not-allowed", "one-domain-one-group", "groups with subgroups or subordinates don't move")
        moved = [
            GroupDescription(group_id=group.group_id, address=address)
            for group, address in zip(conference.groups, addresses, strict=True)
        ]
        conference.moving_to = list(addresses)

        def stored(later: float) -> list[Any]:
            conference.move(moved)
            conference.moving_to = []
            gate = Gate(then)
            effects = []
            for group in groups:
                if self.has(group):
                    effects += self.begin_anew(group, later, then=[gate.wait()])
            return effects + gate.close(later)

        return self.commit(conference_log(conference.id), ConferenceRecord(moved=moved), stored, now)

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

    def _outgrown(self, group: Group, flushed: Flushed, now: float) -> list[Any]:
        """The change can be neither stored nor told in one message. Who was to go goes all the same."""
        refused = [Refuse(joiner.token, _moved()) for joiner, _ in flushed.associations]
        refused += [Refuse(sender.token, _moved()) for sender, _ in flushed.sending]
        refused += [Refuse(joiner.token, _dismissed()) for joiner in flushed.dismissed]
        effects = [alarms.outgrown(group.id, flushed.record.ByteSize(), group.policy.gkm), *refused]
        return effects + self.begin_anew(group, now, then=flushed.then)

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

    def appended(self, log: str, now: float) -> list[Any]:
        """A record is stored."""
        return self.journal.appended(log, now)

    # ---- time

    def woken(self, now: float) -> list[Any]:
        """What is due."""
        effects: list[Any] = []
        for group_id in self._agenda.due(now):
            group = self.groups.get(group_id)
            if group is not None:
                effects += self._look_after(group, now)
        effects += self._beacons.woken(self.groups, now)
        for log in self._snapshots.due(now):
            effects += self._take_snapshot(log, now)
        return effects

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        times = (self._agenda.next_at(), self._beacons.wake_at(), self._snapshots.next_at())
        return min((at for at in times if at is not None), default=None)

    def _look_after(self, group: Group, now: float) -> list[Any]:
        effects: list[Any] = []
        if now >= group.sweep_at:
            ended = group.sweep(now)
            effects += [Count("leases.ended", ended)] if ended else []
            effects += self._forget(self.conferences[group.conference_id], now)
        return effects + self.flush_if_due(group, now)

    def _take_snapshot(self, log: str, now: float) -> list[Any]:
        if self.journal.busy(log):
            self._snapshots.postpone(log, now)
            return []
        record = self._record_of(log)
        if record is None:
            self._snapshots.end(log)
            return []
        self._snapshots.begin(log, now)
        return [TakeSnapshot(log, record.SerializeToString())]

    def _record_of(self, log: str) -> ConferenceRecord | GroupRecord | None:
        id_ = _id_of(log)
        if log.startswith(LOG_PREFIX):
            return self.conferences[id_].record() if id_ in self.conferences else None
        return GroupRecord(snapshot=self.groups[id_].snapshot()) if id_ in self.groups else None

    def _forget(self, conference: Conference, now: float) -> list[Any]:
        """A conference that nobody has been in for long, or whose end is past, has ended: its addresses are free."""
        ids = _ids(conference)
        groups = [self.groups[id_] for id_ in ids if id_ in self.groups]
        served = len(groups) == len(ids)
        if not served or any(len(group.members) or group.batch.joiners for group in groups):
            self._empty_since.pop(conference.id, None)
            return []
        since = self._empty_since.setdefault(conference.id, now)
        if now < since + EMPTY_FOR:
            return []
        return [*self._end(conference), Count("conferences.forgotten")]

    def _end(self, conference: Conference) -> list[Any]:
        effects: list[Any] = self._end_log(conference_log(conference.id))  # the groups' logs are nobody's from here on
        for group_id in _ids(conference):
            group = self.groups.pop(group_id, None)
            self._stars.pop(group_id, None)
            self._agenda.remove(group_id)
            effects += self._end_log(group_log(group_id))
            if group is not None:
                effects += self._beacons.end(group)
        del self.conferences[conference.id]
        self._empty_since.pop(conference.id, None)
        return effects

    def _end_log(self, log: str) -> list[Any]:
        self.journal.give_up(log)
        self._snapshots.end(log)
        return [EndLog(log)]

    # ---- reading logs

    def loaded(self, logs: list[Loaded], now: float, *, all_there_are: bool = False) -> list[Any]:
        """Logs as they were read. Where these are all there are, groups' logs without a conference's are removed."""
        by_name = {loaded.log: loaded for loaded in logs}
        self._given_up.loaded(by_name)
        effects: list[Any] = []
        for name in [name for name in by_name if name.startswith(LOG_PREFIX)]:
            effects += self._take_up_conference(by_name.pop(name), now, at_start=all_there_are)
        begin: list[Callable[[], list[Any]]] = []
        for conference in self.conferences.values():
            for description in conference.all_groups():
                log = group_log(description.group_id)
                if log in by_name or all_there_are:
                    missing = Loaded(log, None, (), whole=False)
                    begin.append(self._take_up_group(conference, description, by_name.pop(log, missing), now))
        for star in self._stars.values():
            star.settle(now)
        effects += [effect for take_over in begin for effect in take_over()]
        if all_there_are:
            self._beacons.recall(now)
            effects += [effect for orphan in by_name.values() for effect in _end_orphan(orphan)]
        return effects

    def _take_up_conference(self, loaded: Loaded, now: float, *, at_start: bool) -> list[Any]:
        conference = None
        try:
            conference = Conference.restored(ConferenceRecord.FromString(raw) for raw in _records(loaded))
        except DecodeError:
            loaded = Loaded(loaded.log, None, (), whole=False)
        effects: list[Any] = []
        if not loaded.whole:
            effects.append(alarms.conference_log_short(loaded.log))
        if conference is None:  # an empty one may be about to begin: elsewhere, where this process has long begun
            nothing = loaded.whole and not _records(loaded) and not at_start
            return effects if nothing else [*effects, EndLog(loaded.log)]
        self.conferences[conference.id] = conference
        self._snapshots.begin(loaded.log, now)
        if not loaded.whole:
            effects += self.journal.commit(loaded.log, conference.record(), lambda _: [], whole=True)
        # subgroups too that another process has added
        ids = [] if at_start else [id_ for id_ in _ids(conference) if id_ not in self.groups]
        return effects + self._given_up.load(*map(group_log, ids))

    def _take_up_group(
        self, conference: Conference, description: GroupDescription, loaded: Loaded, now: float
    ) -> Callable[[], list[Any]]:
        """The group is as its log tells; what is called then takes it over."""
        setting = self._setting(conference, description)
        group, whole = None, loaded.whole
        try:
            group = Group.restored(setting, (GroupRecord.FromString(raw) for raw in _records(loaded)), now)
        except (DecodeError, Rejected):
            whole = False
        said = self._given_up.take(description.group_id)
        whole = whole and group is not None and not group.is_outlived_by(said)
        group = group or Group(setting, setting.gkm(), now)
        self._serve(group, now)
        self._put_into_star(conference, group)
        return partial(self._take_over, conference, group, loaded.log, whole, said, now)

    def _take_over(
        self, conference: Conference, group: Group, log: str, whole: bool, said: wire.Beacon, now: float
    ) -> list[Any]:
        if not whole:
            return [alarms.group_log_short(log), *self.begin_anew(group, now, after=said)]
        group.take_over(now)
        for subject in conference.banned:
            self.eject([group], subject, now)
        return self.flush_if_due(group, now)

    # ---- giving up

    def fenced(self, log: str, now: float, *, elsewhere: bool) -> list[Any]:
        """A log isn't what it was thought to be: nothing that waits for it will follow, and what was thought is void.
        It is read again: at once, or where it goes on `elsewhere`, when this process was asked and has stood by."""
        self.journal.give_up(log)
        id_ = _id_of(log)
        until = now + STAND_BY if elsewhere else now
        effects: list[Any] = [alarms.fenced(log)]
        for conference_id in [key for key in self._creating if id_ in (key, *_ids(self.conferences[key]))]:
            self._give_up_creating(conference_id, until)
        if id_ in self.groups and not elsewhere:
            return [*effects, *self._give_up(self.groups[id_], until), *self._given_up.load(log)]
        conferences = self.conferences.values()
        conference = next((each for each in conferences if id_ in (each.id, *_ids(each))), None)
        if conference is not None:
            effects += self._give_up_conference(conference, until)
            log = conference_log(conference.id)
        return effects if elsewhere else effects + self._given_up.load(log)

    def _give_up_conference(self, conference: Conference, until: float) -> list[Any]:
        effects: list[Any] = []
        del self.conferences[conference.id]
        self.journal.give_up(conference_log(conference.id))
        self._snapshots.end(conference_log(conference.id))
        for group_id in _ids(conference):
            if group_id in self.groups:
                effects += self._give_up(self.groups[group_id], until)
            elif group_id in self._beginning:  # nobody has been told of it
                effects += self._give_up(self._beginning[group_id], until, wire.Beacon())
            self._stars.pop(group_id, None)
        return effects

    def _give_up_creating(self, conference_id: bytes, until: float) -> None:
        """Another process has begun the same conference: who asked for it asks again, and finds that one's."""
        conference = self.conferences.pop(conference_id)
        del self._creating[conference_id]
        for group_id in _ids(conference):
            self.journal.give_up(group_log(group_id))
            self._given_up.put(group_id, conference_id, wire.Beacon(), until)

    def _give_up(self, group: Group, until: float, said: wire.Beacon | None = None) -> list[Any]:
        self.groups.pop(group.id, None)
        self._beginning.pop(group.id, None)
        self._agenda.remove(group.id)
        self._snapshots.end(group_log(group.id))
        self.journal.give_up(group_log(group.id))
        told = group.told
        last = wire.Beacon(epoch=told.epoch, update_number=told.number, next_sender_id=told.next_sender_id)
        self._given_up.put(group.id, group.conference_id, said or last, until)
        waiting = [Refuse(joiner.token, _moved()) for joiner in group.batch.waiting]
        return [*waiting, *self._beacons.end(group)]

    def wanted(self, now: float) -> list[Any]:
        """Logs to be read again, since somebody has just asked for groups that were given up."""
        return list(self._given_up.wanted(self.conferences, now))


def _records(loaded: Loaded) -> list[bytes]:
    return [*([] if loaded.snapshot is None else [loaded.snapshot]), *loaded.entries]


def _ids(conference: Conference) -> list[bytes]:
    return [group.group_id for group in conference.all_groups()]


def _id_of(log: str) -> bytes:
    return bytes.fromhex(log.rpartition("-")[2])


def _end_orphan(loaded: Loaded) -> list[Any]:
    """A group's log without its conference's. Where the conference was about to begin it has one record."""
    effects: list[Any] = [EndLog(loaded.log)]
    if loaded.whole and len(_records(loaded)) <= 1:
        return effects
    return [alarms.conference_log_gone(loaded.log), *effects]


def _remover(group: Group, subject: str) -> Callable[..., bool]:
    return group.remove_host if "/host/" in subject else group.remove_user


def _moved() -> Refused:
    sentence = "another process of this Authorizer has served the group meanwhile; ask again in a second"
    return Refused("moved", "fenced", sentence)


def _dismissed() -> Refused:
    sentence = "the user left, was thrown out, or its host asked for something else, before the registration was done"
    return Refused("dismissed", "membership", sentence)
