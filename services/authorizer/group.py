"""One group at the Authorizer: members, sender IDs, epochs, updates. Whether somebody may join is decided before.

Changes are collected for the policy's batch time and become one `GroupUpdate` and one record of the group's log. The
key, the epoch, the roster and the number change together, in `flush`, or not at all. Nothing of it is told to anybody
before the record is stored (`committed`); until then `told` is what the world knows.

What never goes back, whatever becomes of the log: epochs, since they are no less than the clock and each process
begins with a fresh one and fresh keys; sender IDs, since each process skips as many as an earlier one may have given
and lost, and what members show of their own past (`is_outlived_by`) is believed.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mcsa.distribution import RIGHT_FOR, access_list_hash
from mcsa.errors import Refused, Rejected
from mcsa.esp.spi import epoch_tag
from mcsa.gkm import Authority, Distributing, scheme_named
from mcsa.keys import GroupKey
from mcsa.sealing import check_public_key
from mcsa.source_authentication import mode_named
from mcsa.updates import seal_update, update_key
from mcsa.v1.authorizer_log_pb2 import (
    Admission,
    GroupCounters,
    GroupFlushed,
    GroupRecord,
    GroupSnapshot,
    MemberRecord,
)
from mcsa.v1.authorizer_pb2 import (
    Beacon,
    DistributionRight,
    GroupUpdate,
    SendingAssociation,
)
from mcsa.v1.types_pb2 import RosterEntry
from services.authorizer.addresses import check_unclaimed
from services.authorizer.admissions import Admissions
from services.authorizer.associations import Associations, Epoch
from services.authorizer.batch import Adoption, Batch, Joiner, SendOnlyJoiner
from services.authorizer.blocks import Block, Blocks
from services.authorizer.distant import Distant
from services.authorizer.journal import Then
from services.authorizer.kept_updates import KeptUpdates
from services.authorizer.members import KEY_SIZE, Member, Members
from services.authorizer.room import (
    CHANGE_SIZE,
    ENTRY_SIZE,
    ROSTER_SIZE,
    Roster,
    check_members,
    check_roster,
    check_users,
)
from services.authorizer.send_only_hosts import SendOnlyHosts, record_of
from services.authorizer.sender_ids import SenderIds
from services.authorizer.setting import Setting
from services.authorizer.source_keys import SourceKeys, check_source_key

AGENT = "#relay"  # ends the name of a relaying agent as a member of the backbone; no SPIFFE ID ends so
ACCESS_LIST_SIZE = 1 << 16  # bytes; where it is longer, the group has no distributors
SOMEBODY = "somebody"  # to the GKM: no member's name, for those that are to be left out and aren't known


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush decided, and what follows once its record is stored."""

    record: GroupRecord
    update: bytes  # a SealedUpdate; empty where nobody is there to hear it
    under_epoch: int
    associations: list[tuple[Joiner, bytes]]
    sending: list[tuple[SendOnlyJoiner, bytes]]
    dismissed: list[Joiner | SendOnlyJoiner]
    traceparent: str | None
    then: list[Then]


class Group:
    """See the module."""

    def __init__(self, setting: Setting, gkm: Authority, now: float) -> None:
        self._setting = setting
        self._answers = Associations(setting)
        self.description = setting.description
        self.policy = setting.description.policy
        self._authenticates_sources = mode_named(self.policy.source_authentication).promises.authenticates
        self._gkm = gkm
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
        return self._gkm.key

    # ---- changes asked for

    def join(self, joiner: Joiner, now: float) -> Joiner | None:
        """Admits a host, and the user it speaks for, at the next flush; returns the joiner it takes the place of.

        Raises `Refused` where the request's key material can't be used, or no room is left (`room.py`).
        """
        self._check_room(joiner)
        check_source_key(joiner.request, self.policy)
        try:
            check_public_key(joiner.request.hpke_suite, joiner.request.hpke_public_key)
            self._gkm.check_contribution(joiner.request.gkm_contribution)
        except Rejected as rejected:
            sentence = f"the registration's keys can't be used: {rejected}"
            raise Refused("key-material", rejected.cause, sentence) from None
        if joiner.request.sender:
            self._claim_address(joiner)
        superseded = self.batch.join(joiner)
        self.batch.due(now + self.policy.batch_ms / 1000, joiner.traceparent)
        return superseded

    def join_send_only(self, joiner: SendOnlyJoiner, now: float) -> None:
        """Has a host send, as no member, from the next flush on; a member it is no longer, or isn't to be.

        Raises `Refused` where no room is left. The request's key was checked.
        """
        self._check_roster(joiner)
        check_source_key(joiner.request, self.policy)
        self._claim_address(joiner)
        self.remove_host(joiner.host, now)
        self.batch.join_send_only(joiner)
        self.batch.due(now + self.policy.batch_ms / 1000, joiner.traceparent)

    def _claim_address(self, joiner: Joiner | SendOnlyJoiner) -> None:
        """No other host sends from there, or is about to; `Refused`. The Authorizer may be on a host's machine."""
        address, host = joiner.request.address, joiner.host.removesuffix(AGENT)
        claimants = {self.roster[each].host for each in self.roster.senders_at(address) if each != self.own_sender_id}
        check_unclaimed(address, host, {*claimants, self.batch.claims.get(address, host)})
        self.batch.claims[address] = host

    def _check_room(self, joiner: Joiner) -> None:
        member, waiting = self.members.get(joiner.host), self.batch.joiners
        if member is None and joiner.host not in waiting:
            check_members(scheme_named(self.policy.gkm), len(self.members) + len(waiting))
        users = set() if member is None else member.users
        check_users(len(users | {joiner.user or ""}))
        listed = member is not None and member.sender_id is not None
        if (joiner.user not in users) if listed else joiner.request.sender:
            self._check_roster(joiner)

    def _check_roster(self, joiner: Joiner | SendOnlyJoiner) -> None:
        size, waiting = self.roster.size + self.distant.size, self.batch.waiting
        if size + ENTRY_SIZE * (len(waiting) + 1) > ROSTER_SIZE:  # may be full: then it is worth adding up
            senders = [joiner, *(each for each in waiting if isinstance(each, SendOnlyJoiner) or each.request.sender)]
            check_roster(size + sum(CHANGE_SIZE + sum(map(len, sender.listed)) for sender in senders))

    def remove_user(self, user: str, now: float, *, host: str | None = None, eject: bool = False) -> bool:
        """Takes a user off; the host goes only with its last user. True where that changed anything."""
        waiting = [
            joiner.host for joiner in self.batch.joiners.values() if joiner.user == user and host in (None, joiner.host)
        ]
        for name in waiting:
            self.batch.dismiss(name)
        waiting_too = [each.joiner for each in self.batch.adopting.values() if each.joiner.user == user]
        for name in [joiner.host for joiner in waiting_too if host in (None, joiner.host)]:
            self.batch.dismiss(name)
        hosts = self.members.hosts_of(user) if host is None else self._with_user(host, user)
        for name in hosts:
            self.batch.users_leaving.setdefault(name, set()).add(user)
        for sender in [each for each in self.batch.send_only.values() if each.user == user]:
            if host in (None, sender.host):
                self.batch.dismiss(sender.host)
        ended = self.end_sending(self.send_only.of_user(user, host), now, eject=eject)
        return self._removed(hosts, now, eject=eject) or ended

    def _with_user(self, host: str, user: str) -> list[str]:
        member = self.members.get(host)
        return [host] if member is not None and user in member.users else []

    def remove_host(self, host: str, now: float, *, eject: bool = False) -> bool:
        """Takes a host off, and all its users."""
        self.batch.dismiss(host)
        hosts = [host] if host in self.members else []
        self.batch.leaving.update(hosts)
        ended = self.end_sending([host], now, eject=eject)
        return self._removed(hosts, now, eject=eject) or ended

    def end_sending(self, hosts: Iterable[str], now: float, *, eject: bool = False) -> bool:
        """Takes off hosts that send and are no members, where they are there; no key has to be replaced for it. True
        where that changed anything."""
        ending = [host for host in hosts if host in self.send_only]
        if ending:
            self.batch.send_only_ending.update(ending)
            self.batch.ejecting = self.batch.ejecting or eject
            self.batch.due(now if eject else now + self.policy.batch_ms / 1000)
        return bool(ending)

    def _removed(self, hosts: list[str], now: float, *, eject: bool) -> bool:
        unknown = eject and self.blocks.possible  # it may have been welcomed, and not be known here
        self.batch.somebody_left = self.batch.somebody_left or unknown
        if hosts or self.batch.somebody_left:
            self.batch.ejecting = self.batch.ejecting or eject
            self.batch.ejected.update(hosts if eject else [])
            # an ejection flushes the batch at once
            self.batch.due(now if eject else now + self.policy.batch_ms / 1000)
        return bool(hosts) or unknown

    def renew(self, host: str, now: float) -> bool:
        """The host is still there; False where it is no member."""
        if host not in self.members:
            return False
        self.members.renew(host, now + self.policy.lease_s)
        return True

    def renew_send_only(self, host: str, sender_id: int, now: float) -> bool:
        """Likewise a host that sends; False where it doesn't, under this sender ID."""
        return self.send_only.renew(host, sender_id, now + self.policy.lease_s)

    def sending_key(self, host: str, now: float) -> SendingAssociation | None:
        """What a host that only sends may have of the epoch that was told last: the key of its own packets. None where
        it is none."""
        sender = self.send_only.get(host)
        if sender is None or sender.sender_id is None:
            return None
        told = Epoch(self.told.epoch, self._told_key, self._activates_at)
        return self._answers.sending(sender.sender_id, told, now)

    def hosts_of_domain(self, domain: str) -> list[str]:
        """Members of another domain."""
        prefix = f"spiffe://{domain}/host/"
        return [member.host for member in self.members if member.host.startswith(prefix)]

    def sweep(self, now: float) -> int:
        """Takes off the hosts whose lease has ended; returns how many. To be called at `sweep_at`."""
        self.sweep_at = now + max(1.0, self.policy.lease_s / 10)
        returning = self.batch.joiners.keys() | self.batch.adopting.keys()
        lapsed = [host for host in self.members.lapsed(now) if host not in returning]
        for host in lapsed:
            self.remove_host(host, now)
        silent = self.send_only.lapsed(now)
        self.end_sending(silent, now)
        return len(lapsed) + len(silent)

    def next_at(self, *, busy: bool) -> float:
        """When something is to be done for the group; while it is `busy`, nothing is flushed."""
        if busy:
            return self.sweep_at
        due_at = self.rekey_at if self.batch.due_at is None else min(self.rekey_at, self.batch.due_at)
        return min(self.sweep_at, due_at)

    # ---- members that serve joins

    def right_of(self, host: str, now: float, *, told: bool = True) -> DistributionRight | None:
        """What a host may distribute; None where it may not. `told`: only what is stored."""
        block = self.blocks.of(host)
        access_list = self._setting.access_list()
        if (
            block is None
            or not block.sender_ids
            or not self.blocks.permits(host)
            or len(access_list) > ACCESS_LIST_SIZE
        ):
            return None
        if told and block.given_in > self.told.number:
            return None
        assert isinstance(self._gkm, Distributing)
        return DistributionRight(
            group_id=self.id,
            distributor=host,
            authority_public_key=self._gkm.public_key,
            first_sender_id=block.first_sender_id,
            sender_ids=block.sender_ids,
            access_list=access_list_hash(access_list),
            expires_ms=round((now + RIGHT_FOR) * 1000),
        )

    @property
    def access_list(self) -> bytes:
        """What distributors hold registrations against, serialised."""
        return self._setting.access_list()

    def restock(self, host: str, first_sender_id: int, now: float) -> None:
        """A distributor has used up its block."""
        block = self.blocks.of(host)
        if block is not None and block.first_sender_id == first_sender_id and block.given_in <= self.told.number:
            self.batch.restocking.add(host)
            self.batch.due(now + self.policy.batch_ms / 1000)

    def asked_last(self, host: str) -> int:
        """By a host's own clock, milliseconds: its last registration of the last minutes; 0 for none."""
        joiners = [self.batch.joiners.get(host)]
        joiners += [each.joiner for each in self.batch.adopting.values() if each.joiner.host == host]
        waiting = [joiner.request.asked_ms for joiner in joiners if joiner is not None]
        return max([*waiting, self._admissions.asked_last(host)])

    def has_adopted(self, adoption: Adoption) -> bool:
        """This very member, from this very request."""
        admission = self._admissions.of(adoption.joiner.request_hash)
        return (admission.host, admission.sender_id) == (adoption.joiner.host, adoption.sender_id)

    def adopt(self, adoption: Adoption, now: float) -> None:
        """Takes over a member that a distributor has welcomed, at the next flush; the key stays.

        Raises `Refused`: "sender-id" for one that isn't the distributor's to give, or was given; "key-material";
        "busy" where the host is about to be taken off.
        """
        host, batch = adoption.joiner.host, self.batch
        block = self.blocks.of(adoption.distributor)
        given = {waiting.sender_id for waiting in batch.adopting.values()}
        if block is None or not block.has(adoption.sender_id) or adoption.sender_id in block.used | given:
            sentence = f"sender ID {adoption.sender_id} is not the distributor's to give, or was given before"
            raise Refused("sender-id", "block", sentence)
        if host in batch.leaving or host in batch.users_leaving:
            raise Refused("busy", "one-change-at-a-time", "the host is about to be taken off; report again")
        try:
            self._gkm.check_contribution(adoption.joiner.request.gkm_contribution)
        except Rejected as rejected:
            sentence = f"the registration's keys can't be used: {rejected}"
            raise Refused("key-material", rejected.cause, sentence) from None
        if adoption.joiner.request.sender:
            self._claim_address(adoption.joiner)
        # what the host was before may have welcomed others
        came_back = self.blocks.of(host) is not None or (adoption.keyed_elsewhere and host in self.members)
        batch.somebody_left = batch.somebody_left or came_back
        batch.adopting[host] = adoption
        batch.due(now + self.policy.batch_ms / 1000, adoption.joiner.traceparent)

    def leave_somebody_out(self, now: float, *, blaming: str | None = None) -> None:
        """Who was welcomed and isn't adopted must have no key any more; `blaming` a distributor, which loses its block
        for as long as it stays."""
        self.batch.forfeiting |= set() if blaming is None else {blaming}
        self.batch.somebody_left = True
        self._removed([], now, eject=True)

    # ---- a new beginning

    def take_over(self, now: float) -> None:
        """This process has read the group from its log: a fresh key and epoch at once, a sender ID of its own, and a
        distance to those that were given."""
        self.sender_ids.skip()
        self.batch.taking_over = True
        self.batch.due(now)

    @property
    def is_out_of_sender_ids(self) -> bool:
        """The next flush could need more than there are."""
        return self.sender_ids.lacks(len(self.batch.waiting) + 2)

    def begin_anew(self, now: float, after: Beacon | None = None) -> GroupRecord:
        """All keys are replaced, all members have to register again; returns the record of it.

        `after` is what this Authorizer said once and has forgotten: what follows is later than that.
        """
        said = after or Beacon()
        old = self.epoch
        self.epoch = max(self.epoch, said.epoch)
        self.sender_ids.begin_anew(said.next_sender_id)
        self.number = max(self.number, said.update_number) + 1
        self._gkm = self._setting.gkm()
        self.members = self._no_members()
        self.send_only = SendOnlyHosts()
        self.roster = Roster()
        self._source_keys = SourceKeys()
        self.distant.forget()
        self.agent, self._agent_sender_id = "", 0
        self._updates = KeptUpdates()
        self._admissions = Admissions()
        self.blocks = self._no_blocks()
        self.batch.forget_members()
        self.epoch = self.formed_epoch = self._next_epoch(now, old)
        self.rekey_at = now + self.policy.rekey_s
        self._activates_at = now
        self.own_sender_id = self._give_own_sender_id()
        return GroupRecord(snapshot=self.snapshot())

    def is_outlived_by(self, beacon: Beacon) -> bool:
        """The beacon, which this very Authorizer signed, tells of what this group knows nothing of."""
        later = beacon.epoch > self.epoch or beacon.update_number > self.number
        return later or beacon.next_sender_id > self.sender_ids.next or self._updates.contradict(beacon)

    # ---- carrying them out

    def flush(self, now: float) -> Flushed:
        """All changes asked for, as one; also replaces a key that has grown old."""
        batch = self.batch
        self.batch = batch.split(now, self.members)
        adopted = self._adopt_keys(batch)  # first, so that they get a key that replaces theirs
        changed, departed = batch.take_users_off(self.members)
        joiners = list(batch.joiners.values())
        adding = {joiner.host: joiner for joiner in joiners if self._only_adds_a_user(joiner, batch)}
        entering = [joiner for joiner in joiners if joiner.host not in adding]
        contributions = {joiner.host: joiner.request.gkm_contribution for joiner in entering}
        old_key, under_epoch = self._gkm.key, self.epoch
        leaving = sorted(batch.leaving | {host for host in contributions if host in self.members})
        had_members = len(self.members) > len(leaving) or bool(batch.adopting)
        replace_key = (
            (bool(contributions) and not self.policy.keep_key_on_join) or batch.taking_over or now >= self.rekey_at
        )
        kept_sender_ids = {joiner.host: self._sender_id_of_before(joiner) for joiner in entering}
        left = [*leaving, SOMEBODY] if batch.somebody_left else leaving
        change = self._gkm.change(contributions, left, replace_key=replace_key)
        if self._gkm.key != old_key:
            self.epoch = self._next_epoch(now, self.epoch)
            self.rekey_at = now + self.policy.rekey_s
            self._activates_at = now + self._activation_ms(batch) / 1000
        self.formed_epoch = self.epoch if left else self.formed_epoch
        removed = self._drop([*leaving, *batch.adopting])
        ending = {*batch.send_only_ending, *contributions, *batch.adopting, *batch.send_only}
        ended = sorted(host for host in ending if host in self.send_only)
        kept_sender_ids |= {each.host: self._sender_id_of_before(each) for each in batch.send_only.values()}
        removed += self._end(ended)
        added = self._replace_own_sender_id(removed) if batch.taking_over else []
        added += [entry for joiner in entering for entry in self._admit(joiner, kept_sender_ids[joiner.host], now)]
        for adoption in batch.adopting.values():
            added += self._admit(adoption.joiner, adoption.sender_id, now)
            self.blocks.use(adoption.sender_id)
            batch.then.append(adoption.answer(adopted=True))
        senders = list(batch.send_only.values())
        added += [self._let_send(joiner, kept_sender_ids[joiner.host], now) for joiner in senders]
        changed |= {self._add_user(joiner) for joiner in adding.values()}
        self._appoint(contributions, added, removed)
        came, went = self.distant.catch_up()
        added, removed = added + came, removed + went
        self.number += 1
        forfeited = self.blocks.forfeit([*leaving, *batch.adopting, *batch.forfeiting, *batch.restocking])
        blocks = self._give_blocks([*contributions, *batch.adopting], forfeited, batch)
        update = self._update(change.rekey, added, removed, sorted(changed - set(leaving)), departed, batch)
        raw = seal_update(
            update,
            under_epoch,
            update_key(old_key, self.id, under_epoch),
            self._setting.authorizer,
            self._setting.random,
            now,
        )
        self._updates.add(self.number, self.epoch, raw)
        admitted = [*joiners, *(adoption.joiner for adoption in batch.adopting.values())]
        admissions = self._remember([*admitted, *senders], now)
        associations = self._associate(joiners, change.welcomes, now)
        changed |= {joiner.host for joiner in admitted}
        record = GroupFlushed(
            gkm=change.record,
            counters=self._counters(),
            removed=[*leaving, *batch.adopting],
            changed=[self._record_of(self._member(host)) for host in sorted(changed) if host in self.members],
            update=raw,
            admissions=admissions,
            adopted=adopted,
            forfeited=forfeited,
            blocks=[block.record() for block in blocks],
            send_only_ended=ended,
            send_only=[self._record_of(self._sender(joiner.host)) for joiner in senders],
        )
        return Flushed(
            GroupRecord(flushed=record),
            raw if had_members else b"",
            under_epoch,
            associations,
            [(joiner, self._associate_sender(joiner, now)) for joiner in senders],
            batch.dismissed,
            batch.traceparent,
            batch.then,
        )

    def committed(self) -> None:
        """What was decided last is stored, and may be told."""
        self.told, self._told_key = self._counters(), self._gkm.key

    def updates_since(self, number: int) -> list[bytes] | None:
        """The updates after `number` that may be told; see `KeptUpdates.since`."""
        return self._updates.since(number, self.told.number)

    # ---- the log

    def snapshot(self) -> GroupSnapshot:
        """All of it."""
        return GroupSnapshot(
            gkm=self._gkm.snapshot(),
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
                self._gkm.apply(gkm)
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

    def _remember(self, joiners: list[Joiner | SendOnlyJoiner], now: float) -> list[Admission]:
        self._admissions.forget(now, reported=self.blocks.possible)
        admissions = [
            Admission(
                request_hash=joiner.request_hash,
                host=joiner.host,
                sender_id=self._one_of(joiner).sender_id or 0,
                time_ms=round(now * 1000),
                asked_ms=joiner.request.asked_ms,
            )
            for joiner in joiners
        ]
        self._admissions.take(admissions)
        return admissions

    # ---- inside

    def _no_members(self) -> Members:
        return Members(self._setting.random(KEY_SIZE))

    def _no_blocks(self) -> Blocks:
        return Blocks(scheme_named(self.policy.gkm).distributors, self._setting.distributors)

    def _give_blocks(self, newcomers: list[str], forfeited: list[str], batch: Batch) -> list[Block]:
        """To newcomers; to all that may have one, where a place has come free or another process has chosen before."""
        if not self._setting.distributors:
            return []
        blamed = self.blocks.blame(host for host in sorted(batch.forfeiting) if host in self.members)
        anybody = bool(forfeited) or batch.taking_over
        candidates = self.members.senders() if anybody else map(self._member, newcomers)
        given = self.blocks.appoint(candidates, forfeited, self.sender_ids.next, self.number)
        self.sender_ids.give(sum(block.sender_ids for block in given))
        return [*blamed, *given]

    def _adopt_keys(self, batch: Batch) -> list[bytes]:
        """The GKM's records of it. Who can't be adopted after all (another has its contribution) is left out."""
        records = []
        for host, adoption in list(batch.adopting.items()):
            assert isinstance(self._gkm, Distributing)
            if adoption.keyed_elsewhere:
                continue
            try:
                records.append(self._gkm.adopt({host: adoption.joiner.request.gkm_contribution}))
            except Rejected as rejected:
                sentence = f"the registration's keys can't be used: {rejected}"
                batch.leave_out(adoption, Refused("key-material", rejected.cause, sentence))
        return records

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

    def _only_adds_a_user(self, joiner: Joiner, batch: Batch) -> bool:
        """Another user of a host that is in already, and has its keys: it says so itself."""
        return joiner.request.another_user and joiner.host in self.members and joiner.host not in batch.leaving

    def _sender_id_of_before(self, joiner: Joiner | SendOnlyJoiner) -> int | None:
        """Of the very same request, which an earlier process admitted: it may never have heard."""
        admission = self._admissions.of(joiner.request_hash)
        known = self.send_only if isinstance(joiner, SendOnlyJoiner) else self.members
        member = known.get(joiner.host)
        same = member is not None and admission.host == joiner.host and member.sender_id == admission.sender_id
        return admission.sender_id if same else None

    def _drop(self, hosts: Iterable[str]) -> list[int]:
        removed = []
        for host in hosts:
            member = self.members.remove(host)
            if member is not None and member.sender_id is not None:
                self.roster.drop(member.sender_id)
                self._source_keys.pop(member.sender_id, None)
                removed.append(member.sender_id)
        return removed

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

    def _end(self, hosts: Iterable[str]) -> list[int]:
        """Hosts that sent as no members are off; returns their sender IDs."""
        removed = self.send_only.remove(hosts)
        for sender_id in removed:
            self.roster.drop(sender_id)
            self._source_keys.pop(sender_id, None)
        return removed

    def _add_user(self, joiner: Joiner) -> str:
        member = self._member(joiner.host)
        member.users.add(joiner.user or "")
        self.members.put(member)
        return joiner.host

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

    # ---- as a subgroup (`subgroups.py`)

    @property
    def agent_goes(self) -> bool:
        """The next flush takes the relaying agent off."""
        member, batch = self.members.get(self.agent), self.batch
        return member is not None and (
            self.agent in batch.leaving
            or (self.agent in batch.users_leaving and member.users <= batch.users_leaving[self.agent])
        )

    def _appoint(self, entering: Container[str], added: list[RosterEntry], removed: list[int]) -> None:
        """A subgroup has one relaying agent, a member that sends: the roster's entry is its appointment. One that
        registers again is appointed again, for a sender ID of its own."""
        if self._setting.backbone is None:
            return
        if self.agent and (self.agent not in self.members or self.agent in entering):
            removed.append(self._agent_sender_id)
            self.roster.drop(self._agent_sender_id)
            self.agent = ""
        member = None if self.agent else next(self.members.senders(), None)
        if member is not None:
            self.agent, self._agent_sender_id = member.host, self.sender_ids.give()
            added.append(self._enrol_agent(member))

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
            ejection=batch.ejecting,
            activation_ms=self._activation_ms(batch),
            deactivation_ms=policy.ejection_deactivation_ms if batch.ejecting else policy.deactivation_ms,
            traceparent=batch.traceparent or "",
            all_distant=batch.taking_over,
        )

    def _activation_ms(self, batch: Batch) -> int:
        return self.policy.ejection_activation_ms if batch.ejecting else self.policy.activation_ms

    def _associate(
        self, joiners: list[Joiner], welcomes: Mapping[str, bytes], now: float
    ) -> list[tuple[Joiner, bytes]]:
        """The answers to those that were let in as members."""
        if not joiners:
            return []
        roster = (*self.roster.values(), *self.distant.values())
        shared = self._answers.shared(self.number, roster, self.epoch, self.sender_ids.next, now)
        answers = []
        for joiner in joiners:
            welcome = welcomes.get(joiner.host)  # none for a host that keeps its keys
            sender_id = self._member(joiner.host).sender_id if welcome else None
            right = self.right_of(joiner.host, now, told=False) if welcome else None
            answers.append((joiner, self._answers.of_member(joiner, sender_id, welcome, right, shared)))
        return answers

    def _associate_sender(self, joiner: SendOnlyJoiner, now: float) -> bytes:
        given = self._sender(joiner.host).sender_id or 0
        epoch = Epoch(self.epoch, self._gkm.key, self._activates_at)
        return self._answers.of_sender(joiner, given, epoch, now)

    def _next_epoch(self, now: float, old: int) -> int:
        """Never one that was, never less than the clock, never one whose tag could be taken for the last one's."""
        epoch = max(self.epoch + 1, round(now * 1000))
        while epoch_tag(epoch) == epoch_tag(old):
            epoch += 1
        return epoch

    def _record_of(self, member: Member) -> MemberRecord:
        return record_of(member, self._source_keys.of(member.sender_id))
