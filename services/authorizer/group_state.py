"""What one group at the Authorizer is: members, sender IDs, roster, epoch, and what its log says of them.

Nothing here decides on a change (`group_changes.py`, `group.py`): members come and go by a flush, or by a record of the
log. What is not stored is not told: until `committed`, `told` is what the world knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

from mcsa.gkm import Authority, scheme_named
from mcsa.keys import GroupKey
from mcsa.source_authentication import mode_named
from mcsa.v1.authorizer_log_pb2 import GroupCounters, GroupFlushed, GroupRecord, GroupSnapshot, MemberRecord
from mcsa.v1.types_pb2 import RosterEntry
from services.authorizer.admissions import Admissions
from services.authorizer.associations import Associations
from services.authorizer.batch import Batch, Joiner, SendOnlyJoiner
from services.authorizer.blocks import Blocks
from services.authorizer.distant import Distant
from services.authorizer.kept_updates import KeptUpdates
from services.authorizer.members import KEY_SIZE, Member, Members
from services.authorizer.room import Roster
from services.authorizer.send_only_hosts import SendOnlyHosts, record_of
from services.authorizer.sender_ids import SenderIds
from services.authorizer.setting import Setting
from services.authorizer.source_keys import SourceKeys

AGENT = "#relay"  # ends the name of a relaying agent as a member of the backbone; no SPIFFE ID ends so


class GroupState:
    """See the module."""

    def __init__(self, setting: Setting, gkm: Authority, now: float) -> None:
        self._setting = setting
        self._answers = Associations(setting)
        self.description = setting.description
        self.policy = setting.description.policy
        self._authenticates_sources = mode_named(self.policy.source_authentication).promises.authenticates
        self.gkm = gkm
        self.batch = Batch()
        self.members = self._no_members()
        self.send_only = SendOnlyHosts()
        self._own_roster_entry = RosterEntry(host=str(setting.authorizer.id), address=setting.address)
        self.roster = Roster()
        self._source_keys = SourceKeys()
        self._updates = KeptUpdates()
        self._admissions = Admissions()
        self.blocks = self._no_blocks()
        self.formed_epoch = 0
        self.sender_ids = SenderIds(setting.sender_ids)
        self.agent, self._agent_sender_id = "", 0
        self.distant = Distant()
        self.epoch = round(now * 1000)  # no less than the clock: a lost past can't come again (design, section 6)
        self.number = 0
        self.rekey_at = now + self.policy.rekey_s
        self.sweep_at = now
        self.own_sender_id = self._give_own_sender_id()
        self._activates_at = now  # when senders switch to the epoch
        self.told, self._told_key = self._counters(), gkm.key

    @classmethod
    def restored(cls, setting: Setting, records: Iterable[GroupRecord], now: float) -> Self | None:
        """The group that the records of its log tell of; None where they tell of none. `Rejected("record")`.

        It follows from then on what is in the records, and nothing else: what wasn't acknowledged never was.
        """
        group: Self | None = None
        for record in records:
            if record.HasField("snapshot"):
                gkm = scheme_named(setting.description.policy.gkm).restore(record.snapshot.gkm, setting.random)
                group = cls(setting, gkm, now)
                group._take_snapshot(record.snapshot, now)
            elif group is not None:
                group._repeat(record.flushed, now)
        if group is not None:
            group.committed()
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
    def domain(self) -> str:
        """Of the Authorizer that the conference is at home at, whoever serves it: all members derive under it."""
        return self._setting.domain

    @property
    def key(self) -> GroupKey:
        """The group key of the current epoch."""
        return self.gkm.key

    def committed(self) -> None:
        """What was decided last is stored, and may be told."""
        self.told, self._told_key = self._counters(), self.gkm.key

    # ---- the log

    def snapshot(self) -> GroupSnapshot:
        """All of it."""
        return GroupSnapshot(
            gkm=self.gkm.snapshot(),
            counters=self._counters(),
            members=self.members.pack(),
            updates=self._updates.pack(),
            admissions=self._admissions,
            blocks=self.blocks.records(),
            send_only=self.send_only.records(),
            source_keys=self._source_keys,
        )

    def _take_snapshot(self, snapshot: GroupSnapshot, now: float) -> None:
        self.members = Members.unpack(snapshot.members)
        self._source_keys = SourceKeys(snapshot.source_keys)
        for member in self.members.senders():
            self._enrol(member)
        self.members.renew_all(now + self.policy.lease_s)
        self._take_senders(snapshot.send_only, now)
        self._take_counters(snapshot.counters)
        self._updates = KeptUpdates(snapshot.updates, self.number)
        self._admissions = Admissions(snapshot.admissions)
        self.blocks.take(snapshot.blocks)

    def _repeat(self, flushed: GroupFlushed, now: float) -> None:
        for gkm in (*flushed.adopted, flushed.gkm):
            if gkm:
                self.gkm.apply(gkm)
        self._drop(flushed.removed)
        self._end(flushed.send_only_ended)
        self._take_senders(flushed.send_only, now)
        for record in flushed.changed:
            sender_id = record.sender_id if record.HasField("sender_id") else None
            member = Member(record.host, record.address, sender_id, set(record.users), now + self.policy.lease_s)
            self.members.put(member)
            self._source_keys.give(sender_id, record.source_key)
            self._enrol(member)
            self.blocks.use(sender_id or 0)
        self.blocks.forfeit(flushed.forfeited)
        self.blocks.take(flushed.blocks)
        self._take_counters(flushed.counters)
        self._updates.add(self.number, self.epoch, flushed.update)
        self._admissions.take(flushed.admissions)

    def _counters(self) -> GroupCounters:
        return GroupCounters(
            epoch=self.epoch,
            number=self.number,
            next_sender_id=self.sender_ids.next,
            own_sender_id=self.own_sender_id,
            rekey_ms=round(self.rekey_at * 1000),
            agent=self.agent,
            agent_sender_id=self._agent_sender_id,
            formed_epoch=self.formed_epoch,
        )

    def _take_counters(self, counters: GroupCounters) -> None:
        self.roster.drop(self.own_sender_id)
        self.roster.drop(self._agent_sender_id)
        self.epoch, self.number = counters.epoch, counters.number
        self.sender_ids.next, self.own_sender_id = counters.next_sender_id, counters.own_sender_id
        self.rekey_at = counters.rekey_ms / 1000
        self.agent, self._agent_sender_id = counters.agent, counters.agent_sender_id
        self.formed_epoch = counters.formed_epoch
        self._enrol_self()
        if self.agent:
            self._enrol_agent(self._member(self.agent))

    def _take_senders(self, records: Sequence[MemberRecord], now: float) -> None:
        for record in records:
            self._source_keys.give(record.sender_id, record.source_key)
        for sender in self.send_only.take(records, now + self.policy.lease_s):
            self._enrol(sender, send_only=True)

    def _record_of(self, member: Member) -> MemberRecord:
        return record_of(member, self._source_keys.of(member.sender_id))

    # ---- who is in

    def _no_members(self) -> Members:
        return Members(self._setting.random(KEY_SIZE))

    def _no_blocks(self) -> Blocks:
        return Blocks(scheme_named(self.policy.gkm).distributors, self._setting.distributors)

    def _member(self, host: str) -> Member:
        member = self.members.get(host)
        assert member is not None, host
        return member

    def _sender(self, host: str) -> Member:
        sender = self.send_only.get(host)
        assert sender is not None, host
        return sender

    def _one_of(self, joiner: Joiner | SendOnlyJoiner) -> Member:
        """Who was let in."""
        return self._sender(joiner.host) if isinstance(joiner, SendOnlyJoiner) else self._member(joiner.host)

    def _admit(self, joiner: Joiner, sender_id: int | None, now: float) -> list[RosterEntry]:
        if joiner.request.sender and sender_id is None:
            sender_id = self.sender_ids.give()
        users = set() if joiner.user is None else {joiner.user}
        member = Member(joiner.host, joiner.request.address, sender_id, users, now + self.policy.lease_s)
        self.members.put(member)
        if self._authenticates_sources and not joiner.request.relay:
            self._source_keys.give(sender_id, joiner.request.source_key)
        return self._enrol(member)

    def _let_send(self, joiner: SendOnlyJoiner, sender_id: int | None, now: float) -> RosterEntry:
        users = set() if joiner.user is None else {joiner.user}
        given = self.sender_ids.give() if sender_id is None else sender_id
        sender = Member(joiner.host, joiner.request.address, given, users, now + self.policy.lease_s)
        self.send_only.put(sender)
        if self._authenticates_sources:
            self._source_keys.give(given, joiner.request.source_key)
        return self._enrol(sender, send_only=True)[0]

    def _add_user(self, joiner: Joiner) -> str:
        member = self._member(joiner.host)
        member.users.add(joiner.user or "")
        self.members.put(member)
        return joiner.host

    def _drop(self, hosts: Iterable[str]) -> list[int]:
        removed = []
        for host in hosts:
            member = self.members.remove(host)
            if member is not None and member.sender_id is not None:
                self.roster.drop(member.sender_id)
                self._source_keys.pop(member.sender_id, None)
                removed.append(member.sender_id)
        return removed

    def _end(self, hosts: Iterable[str]) -> list[int]:
        """Hosts that sent as no members are off; returns their sender IDs."""
        removed = self.send_only.remove(hosts)
        for sender_id in removed:
            self.roster.drop(sender_id)
            self._source_keys.pop(sender_id, None)
        return removed

    def _enrol(self, member: Member, *, send_only: bool = False) -> list[RosterEntry]:
        """Into the roster, where the member is a sender; `send_only`: where it is no member."""
        if member.sender_id is None:
            return []
        entry = RosterEntry(
            sender_id=member.sender_id,
            host=member.host.removesuffix(AGENT),
            users=sorted(member.users),
            address=member.address,
            relay=member.host.endswith(AGENT),
            source_key=self._source_keys.of(member.sender_id),
            send_only=send_only,
        )
        self.roster.put(entry)
        return [entry]

    def _enrol_agent(self, member: Member) -> RosterEntry:
        entry = RosterEntry(sender_id=self._agent_sender_id, host=member.host, address=member.address, relay=True)
        self.roster.put(entry)
        return entry

    # ---- sender IDs

    def _replace_own_sender_id(self, removed: list[int]) -> list[RosterEntry]:
        self.roster.drop(self.own_sender_id)
        removed.append(self.own_sender_id)
        self.own_sender_id = self._give_own_sender_id()
        return [self.roster[self.own_sender_id]]

    def _give_own_sender_id(self) -> int:
        self.own_sender_id = self.sender_ids.give()
        self._enrol_self()
        return self.own_sender_id

    def _enrol_self(self) -> None:
        entry = RosterEntry(sender_id=self.own_sender_id)
        entry.MergeFrom(self._own_roster_entry)
        self.roster.put(entry)
