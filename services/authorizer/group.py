"""One group at the Authorizer: members, sender IDs, epochs, updates. Whether somebody may join is decided before.

Changes are collected for the policy's batch time and become one `GroupUpdate` and one record of the group's log. The
key, the epoch, the roster and the number change together, in `flush`, or not at all. Nothing of it is told to anybody
before the record is stored (`committed`); until then `told` is what the world knows.

What never goes back, whatever becomes of the log: epochs, since they are no less than the clock and each process
begins with a fresh one and fresh keys; sender IDs, since each process skips as many as an earlier one may have given
and lost, and what members show of their own past (`is_outlived_by`) is believed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from mcsa.errors import Refused, Rejected
from mcsa.esp.spi import SENDER_ID_LIMIT, epoch_tag
from mcsa.gkm import Authority, scheme_named
from mcsa.identity import Credentials
from mcsa.keys import GroupKey, Random
from mcsa.registration import seal_association
from mcsa.sealing import check_public_key
from mcsa.updates import seal_update, update_key
from mcsa.v1.authorizer_log_pb2 import (
    Admission,
    GroupCounters,
    GroupFlushed,
    GroupRecord,
    GroupSnapshot,
    KeptUpdate,
    MemberRecord,
)
from mcsa.v1.authorizer_pb2 import Beacon, GroupSecurityAssociation, GroupUpdate
from mcsa.v1.types_pb2 import GroupDescription, RosterEntry, SignedStatement
from services.authorizer.batch import Batch, Joiner
from services.authorizer.journal import Then
from services.authorizer.members import KEY_SIZE, Member, Members
from services.authorizer.room import (
    CHANGE_SIZE,
    ENTRY_SIZE,
    REPAIR_SIZE,
    ROSTER_SIZE,
    Roster,
    check_members,
    check_roster,
    check_users,
)

UPDATES_KEPT = 256  # for members that missed some; who missed more registers again
UPDATES_BYTES_KEPT = 4 << 20  # of the same, in a protocol whose updates are long
MAX_SENDER_ID = SENDER_ID_LIMIT - 1
SKIPPED = 1_024  # sender IDs that a new process leaves out: the log may have lost who got them
ADMISSIONS_FOR = 120.0  # seconds; a repeated request is late by then
_Part = TypeVar("_Part", KeptUpdate, Admission)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a group is, for its life."""

    description: GroupDescription
    conference_id: bytes
    signed_description: SignedStatement
    authorizer: Credentials
    address: str  # the Authorizer's own
    random: Random

    def gkm(self) -> Authority:
        """A fresh authority of the group's key management protocol."""
        return scheme_named(self.description.policy.gkm).create(self.random)


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush decided, and what follows once its record is stored."""

    record: GroupRecord
    update: bytes  # a SealedUpdate; empty where nobody is there to hear it
    under_epoch: int
    associations: list[tuple[Joiner, bytes]]
    dismissed: list[Joiner]
    traceparent: str | None
    then: list[Then]


class Group:
    """See the module."""

    def __init__(self, setting: Setting, gkm: Authority, now: float) -> None:
        self._setting = setting
        self.description = setting.description
        self.policy = setting.description.policy
        self._gkm = gkm
        self.batch = Batch()
        self.members = self._no_members()
        self._own_roster_entry = RosterEntry(host=str(setting.authorizer.id), address=setting.address)
        self.roster = Roster()
        self._updates: deque[tuple[int, KeptUpdate]] = deque()
        self._updates_size = 0
        self._admissions: dict[bytes, Admission] = {}
        self._next_sender_id = 1
        self.epoch = round(now * 1000)  # no less than the clock: a lost past can't come again (design, section 6)
        self.number = 0
        self.rekey_at = now + self.policy.rekey_s
        self.sweep_at = now
        self.own_sender_id = self._give_own_sender_id()
        self.told = self._counters()

    @classmethod
    def restored(cls, setting: Setting, records: Iterable[GroupRecord], now: float) -> Group | None:
        """The group that the records of its log tell of; None where they tell of none. `Rejected("record")`.

        It follows from then on what is in the records, and nothing else: what wasn't acknowledged never was.
        """
        group: Group | None = None
        for record in records:
            if record.HasField("snapshot"):
                gkm = scheme_named(setting.description.policy.gkm).restore(record.snapshot.gkm, setting.random)
                group = cls(setting, gkm, now)
                group._take_snapshot(record.snapshot, now)
            elif group is not None:
                group._repeat(record.flushed, now)
        if group is not None:
            group.told = group._counters()
        return group

    @property
    def id(self) -> bytes:
        """16 bytes."""
        return self.description.group_id

    @property
    def conference_id(self) -> bytes:
        """16 bytes."""
        return self._setting.conference_id

    @property
    def key(self) -> GroupKey:
        """The group key of the current epoch."""
        return self._gkm.key

    # ---- changes asked for

    def join(self, joiner: Joiner, now: float) -> Joiner | None:
        """Admits a host, and the user it speaks for, at the next flush; returns the joiner it takes the place of.

        Raises `Refused` where the request's key material can't be used, or no room is left (`room.py`).
        """
        self._check_room(joiner)
        try:
            check_public_key(joiner.request.hpke_suite, joiner.request.hpke_public_key)
            self._gkm.check_contribution(joiner.request.gkm_contribution)
        except Rejected as rejected:
            sentence = f"the registration's keys can't be used: {rejected}"
            raise Refused("key-material", rejected.cause, sentence) from None
        superseded = self.batch.join(joiner)
        self.batch.due(now + self.policy.batch_ms / 1000, joiner.traceparent)
        return superseded

    def _check_room(self, joiner: Joiner) -> None:
        member, waiting = self.members.get(joiner.host), self.batch.joiners
        if member is None and joiner.host not in waiting:
            check_members(scheme_named(self.policy.gkm), len(self.members) + len(waiting))
        users = set() if member is None else member.users
        check_users(len(users | {joiner.user or ""}))
        listed = member is not None and member.sender_id is not None
        if (joiner.user not in users) if listed else joiner.request.sender:
            self._check_roster(joiner)

    def _check_roster(self, joiner: Joiner) -> None:
        size, waiting = self.roster.size, self.batch.joiners
        if size + ENTRY_SIZE * (len(waiting) + 1) > ROSTER_SIZE:  # may be full: then it is worth adding up
            senders = [joiner, *(other for other in waiting.values() if other.request.sender)]
            check_roster(size + sum(CHANGE_SIZE + sum(map(len, sender.names)) for sender in senders))

    def remove_user(self, user: str, now: float, *, host: str | None = None, eject: bool = False) -> bool:
        """Takes a user off; the host goes only with its last user. True where that changed anything."""
        waiting = [
            joiner.host for joiner in self.batch.joiners.values() if joiner.user == user and host in (None, joiner.host)
        ]
        for name in waiting:
            self.batch.dismiss(name)
        hosts = self.members.hosts_of(user) if host is None else self._with_user(host, user)
        for name in hosts:
            self.batch.users_leaving.setdefault(name, set()).add(user)
        return self._removed(hosts, now, eject=eject)

    def _with_user(self, host: str, user: str) -> list[str]:
        member = self.members.get(host)
        return [host] if member is not None and user in member.users else []

    def remove_host(self, host: str, now: float, *, eject: bool = False) -> bool:
        """Takes a host off, and all its users."""
        self.batch.dismiss(host)
        hosts = [host] if host in self.members else []
        self.batch.leaving.update(hosts)
        return self._removed(hosts, now, eject=eject)

    def _removed(self, hosts: list[str], now: float, *, eject: bool) -> bool:
        if hosts:
            self.batch.ejected.update(hosts if eject else [])
            # an ejection flushes the batch at once
            self.batch.due(now if eject else now + self.policy.batch_ms / 1000)
        return bool(hosts)

    def renew(self, host: str, now: float) -> bool:
        """The host is still there; False where it is no member."""
        if host not in self.members:
            return False
        self.members.renew(host, now + self.policy.lease_s)
        return True

    def sweep(self, now: float) -> int:
        """Takes off the hosts whose lease has ended; returns how many. To be called at `sweep_at`."""
        self.sweep_at = now + max(1.0, self.policy.lease_s / 10)
        lapsed = [host for host in self.members.lapsed(now) if host not in self.batch.joiners]
        for host in lapsed:
            self.remove_host(host, now)
        return len(lapsed)

    # ---- a new beginning

    def take_over(self, now: float) -> None:
        """This process has read the group from its log: a fresh key and epoch at once, a sender ID of its own, and a
        distance to those that were given."""
        self._next_sender_id += SKIPPED
        self.batch.taking_over = True
        self.batch.due(now)

    @property
    def is_out_of_sender_ids(self) -> bool:
        """The next flush could need more than there are."""
        return self._next_sender_id + len(self.batch.joiners) + 1 > MAX_SENDER_ID

    def begin_anew(self, now: float, after: Beacon | None = None) -> GroupRecord:
        """All keys are replaced, all members have to register again; returns the record of it.

        `after` is what this Authorizer said once and has forgotten: what follows is later than that. Sender IDs begin
        again only where they have run out: no key is left then that was used with one.
        """
        said = after or Beacon()
        old = self.epoch
        self.epoch = max(self.epoch, said.epoch)
        self._next_sender_id = max(self._next_sender_id, said.next_sender_id) + SKIPPED
        if self._next_sender_id > MAX_SENDER_ID - SKIPPED:
            self._next_sender_id = 1
        self.number = max(self.number, said.update_number) + 1
        self._gkm = self._setting.gkm()
        self.members = self._no_members()
        self.roster = Roster()
        self._updates.clear()
        self._updates_size = 0
        self._admissions.clear()
        self.batch.forget_members()
        self.epoch = self._next_epoch(now, old)
        self.rekey_at = now + self.policy.rekey_s
        self.own_sender_id = self._give_own_sender_id()
        return GroupRecord(snapshot=self.snapshot())

    def is_outlived_by(self, beacon: Beacon) -> bool:
        """The beacon, which this very Authorizer signed, tells of what this group knows nothing of."""
        later = beacon.epoch > self.epoch or beacon.update_number > self.number
        if later or beacon.next_sender_id > self._next_sender_id:
            return True
        return any(number == beacon.update_number and kept.epoch != beacon.epoch for number, kept in self._updates)

    # ---- carrying them out

    def flush(self, now: float) -> Flushed:
        """All changes asked for, as one; also replaces a key that has grown old."""
        batch = self.batch
        self.batch = batch.split(now, self.members)
        changed, departed = self._take_users_off(batch)
        joiners = list(batch.joiners.values())
        adding = {joiner.host: joiner for joiner in joiners if self._only_adds_a_user(joiner, batch)}
        entering = [joiner for joiner in joiners if joiner.host not in adding]
        contributions = {joiner.host: joiner.request.gkm_contribution for joiner in entering}
        old_key, under_epoch = self._gkm.key, self.epoch
        leaving = sorted(batch.leaving | {host for host in contributions if host in self.members})
        had_members = len(self.members) > len(leaving)
        replace_key = (
            (bool(contributions) and not self.policy.keep_key_on_join) or batch.taking_over or now >= self.rekey_at
        )
        kept_sender_ids = {joiner.host: self._sender_id_of_before(joiner) for joiner in entering}
        change = self._gkm.change(contributions, leaving, replace_key=replace_key)
        if self._gkm.key != old_key:
            self.epoch = self._next_epoch(now, self.epoch)
            self.rekey_at = now + self.policy.rekey_s
        removed = self._drop(leaving)
        added = self._replace_own_sender_id(removed) if batch.taking_over else []
        added += [entry for joiner in entering for entry in self._admit(joiner, kept_sender_ids[joiner.host], now)]
        changed |= {self._add_user(joiner) for joiner in adding.values()}
        self.number += 1
        update = self._update(change.rekey, added, removed, sorted(changed - set(leaving)), departed, batch)
        raw = seal_update(
            update,
            under_epoch,
            update_key(old_key, self.id, under_epoch),
            self._setting.authorizer,
            self._setting.random,
            now,
        )
        self._keep_update(raw)
        admissions = self._remember(joiners, now)
        shared = self._shared_association(now) if joiners else b""
        associations = [(each, self._associate(each, change.welcomes.get(each.host), shared)) for each in joiners]
        changed |= {joiner.host for joiner in joiners}
        record = GroupFlushed(
            gkm=change.record,
            counters=self._counters(),
            removed=leaving,
            changed=[_member_record(self._member(host)) for host in sorted(changed) if host in self.members],
            update=raw,
            admissions=admissions,
        )
        return Flushed(
            GroupRecord(flushed=record),
            raw if had_members else b"",
            under_epoch,
            associations,
            batch.dismissed,
            batch.traceparent,
            batch.then,
        )

    def committed(self) -> None:
        """What was decided last is stored, and may be told."""
        self.told = self._counters()

    def updates_since(self, number: int) -> list[bytes] | None:
        """The updates after `number`, in order, that may be told, or as many of them as one answer has room for; None
        where they are not all there any more."""
        told = self.told.number
        if number > told:
            return None
        missing = [kept.sealed for at, kept in self._updates if number < at <= told]
        if len(missing) < told - number:
            return None
        sizes = accumulate(map(len, missing))
        return missing[: max(1, sum(size <= REPAIR_SIZE for size in sizes))]

    # ---- the log

    def snapshot(self) -> GroupSnapshot:
        """All of it."""
        return GroupSnapshot(
            gkm=self._gkm.snapshot(),
            counters=self._counters(),
            members=self.members.pack(),
            updates=[kept for _, kept in self._updates],
            admissions=self._admissions.values(),
        )

    def _take_snapshot(self, snapshot: GroupSnapshot, now: float) -> None:
        self.members = Members.unpack(snapshot.members)
        for member in self.members.senders():
            self._enrol(member)
        self.members.renew_all(now + self.policy.lease_s)
        self._take_counters(snapshot.counters)
        first = self.number - len(snapshot.updates) + 1
        self._updates = deque((first + index, _copy(kept)) for index, kept in enumerate(snapshot.updates))
        self._updates_size = sum(len(kept.sealed) for kept in snapshot.updates)
        self._admissions = {admission.request_hash: _copy(admission) for admission in snapshot.admissions}

    def _repeat(self, flushed: GroupFlushed, now: float) -> None:
        if flushed.gkm:
            self._gkm.apply(flushed.gkm)
        self._drop(flushed.removed)
        for record in flushed.changed:
            sender_id = record.sender_id if record.HasField("sender_id") else None
            member = Member(record.host, record.address, sender_id, set(record.users), now + self.policy.lease_s)
            self.members.put(member)
            self._enrol(member)
        self._take_counters(flushed.counters)
        self._keep_update(flushed.update)
        self._admissions.update({admission.request_hash: _copy(admission) for admission in flushed.admissions})

    def _counters(self) -> GroupCounters:
        return GroupCounters(
            epoch=self.epoch,
            number=self.number,
            next_sender_id=self._next_sender_id,
            own_sender_id=self.own_sender_id,
            rekey_ms=round(self.rekey_at * 1000),
        )

    def _take_counters(self, counters: GroupCounters) -> None:
        self.roster.drop(self.own_sender_id)
        self.epoch, self.number = counters.epoch, counters.number
        self._next_sender_id, self.own_sender_id = counters.next_sender_id, counters.own_sender_id
        self.rekey_at = counters.rekey_ms / 1000
        self._enrol_self()

    def _keep_update(self, raw: bytes) -> None:
        updates = self._updates
        updates.append((self.number, KeptUpdate(epoch=self.epoch, sealed=raw)))
        self._updates_size += len(raw)
        while len(updates) > UPDATES_KEPT or (self._updates_size > UPDATES_BYTES_KEPT and len(updates) > 1):
            self._updates_size -= len(updates.popleft()[1].sealed)

    def _remember(self, joiners: list[Joiner], now: float) -> list[Admission]:
        oldest = round((now - ADMISSIONS_FOR) * 1000)
        while self._admissions and self._admissions[first := next(iter(self._admissions))].time_ms <= oldest:
            del self._admissions[first]
        admissions = [
            Admission(
                request_hash=joiner.request_hash,
                host=joiner.host,
                sender_id=self._member(joiner.host).sender_id or 0,
                time_ms=round(now * 1000),
            )
            for joiner in joiners
        ]
        self._admissions.update({admission.request_hash: admission for admission in admissions})
        return admissions

    # ---- inside

    def _no_members(self) -> Members:
        return Members(self._setting.random(KEY_SIZE))

    def _member(self, host: str) -> Member:
        member = self.members.get(host)
        assert member is not None, host
        return member

    def _only_adds_a_user(self, joiner: Joiner, batch: Batch) -> bool:
        """Another user of a host that is in already, and has its keys: it says so itself."""
        return joiner.request.another_user and joiner.host in self.members and joiner.host not in batch.leaving

    def _sender_id_of_before(self, joiner: Joiner) -> int | None:
        """Of the very same request, which an earlier process admitted: it may never have heard."""
        admission = self._admissions.get(joiner.request_hash, Admission())
        member = self.members.get(joiner.host)
        same = member is not None and admission.host == joiner.host and member.sender_id == admission.sender_id
        return admission.sender_id if same else None

    def _drop(self, hosts: Iterable[str]) -> list[int]:
        removed = []
        for host in hosts:
            member = self.members.remove(host)
            if member is not None and member.sender_id is not None:
                self.roster.drop(member.sender_id)
                removed.append(member.sender_id)
        return removed

    def _admit(self, joiner: Joiner, sender_id: int | None, now: float) -> list[RosterEntry]:
        if joiner.request.sender and sender_id is None:
            sender_id = self._give_sender_id()
        users = set() if joiner.user is None else {joiner.user}
        member = Member(joiner.host, joiner.request.address, sender_id, users, now + self.policy.lease_s)
        self.members.put(member)
        return self._enrol(member)

    def _add_user(self, joiner: Joiner) -> str:
        member = self._member(joiner.host)
        member.users.add(joiner.user or "")
        self.members.put(member)
        return joiner.host

    def _take_users_off(self, batch: Batch) -> tuple[set[str], list[str]]:
        """Hosts that stay with other users, and who departed. A host goes with its last user."""
        changed, departed = set(), list[str]()
        for host, users in batch.users_leaving.items():
            member = self.members.get(host)
            if member is None or host in batch.leaving:
                continue
            departed += sorted(member.users & users)
            if member.users <= users:
                batch.leaving.add(host)
            else:
                member.users -= users
                self.members.put(member)
                changed.add(host)
        for host in sorted(batch.leaving):
            member = self.members.get(host)
            departed += [] if member is None else sorted(member.users)
        return changed, list(dict.fromkeys(departed))

    def _enrol(self, member: Member) -> list[RosterEntry]:
        """Into the roster, where the member is a sender."""
        if member.sender_id is None:
            return []
        entry = RosterEntry(
            sender_id=member.sender_id, host=member.host, users=sorted(member.users), address=member.address
        )
        self.roster.put(entry)
        return [entry]

    def _replace_own_sender_id(self, removed: list[int]) -> list[RosterEntry]:
        self.roster.drop(self.own_sender_id)
        removed.append(self.own_sender_id)
        self.own_sender_id = self._give_own_sender_id()
        return [self.roster[self.own_sender_id]]

    def _give_own_sender_id(self) -> int:
        self.own_sender_id = self._give_sender_id()
        self._enrol_self()
        return self.own_sender_id

    def _enrol_self(self) -> None:
        entry = RosterEntry(sender_id=self.own_sender_id)
        entry.MergeFrom(self._own_roster_entry)
        self.roster.put(entry)

    def _update(
        self,
        rekey: bytes,
        added: list[RosterEntry],
        removed: list[int],
        changed: list[str],
        departed: list[str],
        batch: Batch,
    ) -> GroupUpdate:
        policy = self.policy
        return GroupUpdate(
            group_id=self.id,
            number=self.number,
            epoch=self.epoch,
            gkm_rekey=rekey,
            added=added,
            removed=removed,
            changed=[entry for host in changed for entry in self._enrol(self._member(host))],
            departed_users=departed,
            ejection=bool(batch.ejected),
            activation_ms=policy.ejection_activation_ms if batch.ejected else policy.activation_ms,
            deactivation_ms=policy.ejection_deactivation_ms if batch.ejected else policy.deactivation_ms,
            traceparent=batch.traceparent or "",
        )

    def _shared_association(self, now: float) -> bytes:
        """What is alike in all answers."""
        gsa = GroupSecurityAssociation(
            group=self.description,
            conference_id=self.conference_id,
            description=self._setting.signed_description,
            update_number=self.number,
            roster=self.roster.values(),
            epoch=self.epoch,
            next_sender_id=self._next_sender_id,
            time_ms=round(now * 1000),
        )
        return gsa.SerializeToString()

    def _associate(self, joiner: Joiner, welcome: bytes | None, shared: bytes) -> bytes:
        """The answer; without a `welcome` for a host that keeps its keys."""
        sender_id = self._member(joiner.host).sender_id if welcome else None
        own = GroupSecurityAssociation(sender_id=sender_id, gkm_welcome=welcome or b"")
        return seal_association(joiner.request, joiner.request_hash, shared, own)

    def _give_sender_id(self) -> int:
        sender_id = self._next_sender_id
        self._next_sender_id += 1
        return sender_id

    def _next_epoch(self, now: float, old: int) -> int:
        """Never one that was, never less than the clock, never one whose tag could be taken for the last one's."""
        epoch = max(self.epoch + 1, round(now * 1000))
        while epoch_tag(epoch) == epoch_tag(old):
            epoch += 1
        return epoch


def _member_record(member: Member) -> MemberRecord:
    return MemberRecord(
        host=member.host, address=member.address, sender_id=member.sender_id, users=sorted(member.users)
    )


def _copy(part: _Part) -> _Part:
    """By itself: a part of a message keeps all of it in memory, and a snapshot is long."""
    copy = type(part)()
    copy.CopyFrom(part)
    return copy
