"""One group at the Authorizer: members, sender IDs, epochs, updates. Whether somebody may join is decided before.

Changes are collected for the policy's batch time and become one `GroupUpdate` and one record of the group's log. The
key, the epoch, the roster and the number change together, in `flush`, or not at all. Nothing of it is told to anybody
before the record is stored (`committed`); until then `told` is what the world knows.

What never goes back, whatever becomes of the log: epochs, since they are no less than the clock and each process
begins with a fresh one and fresh keys; sender IDs, since each process skips as many as an earlier one may have given
and lost, and what members show of their own past (`is_outlived_by`) is believed.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from mcsa.errors import Refused, Rejected
from mcsa.esp.spi import epoch_tag
from mcsa.gkm import Distributing
from mcsa.updates import seal_update, update_key
from mcsa.v1.authorizer_log_pb2 import Admission, GroupFlushed, GroupRecord
from mcsa.v1.authorizer_pb2 import Beacon, GroupUpdate
from mcsa.v1.types_pb2 import RosterEntry
from services.authorizer.admissions import Admissions
from services.authorizer.batch import Batch, Joiner, SendOnlyJoiner
from services.authorizer.blocks import Block
from services.authorizer.group_changes import GroupChanges
from services.authorizer.journal import Then
from services.authorizer.kept_updates import KeptUpdates
from services.authorizer.room import Roster
from services.authorizer.send_only_hosts import SendOnlyHosts
from services.authorizer.source_keys import SourceKeys

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


class Group(GroupChanges):
    """See the module. What it is, what it answers, what is asked of it: the files of its parts."""

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
        self.gkm = self._setting.gkm()
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

    # ---- carrying changes out

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
        old_key, under_epoch = self.gkm.key, self.epoch
        leaving = sorted(batch.leaving | {host for host in contributions if host in self.members})
        had_members = len(self.members) > len(leaving) or bool(batch.adopting)
        replace_key = (
            (bool(contributions) and not self.policy.keep_key_on_join) or batch.taking_over or now >= self.rekey_at
        )
        kept_sender_ids = {joiner.host: self._sender_id_of_before(joiner) for joiner in entering}
        left = [*leaving, SOMEBODY] if batch.somebody_left else leaving
        change = self.gkm.change(contributions, left, replace_key=replace_key)
        if self.gkm.key != old_key:
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
            assert isinstance(self.gkm, Distributing)
            if adoption.keyed_elsewhere:
                continue
            try:
                records.append(self.gkm.adopt({host: adoption.joiner.request.gkm_contribution}))
            except Rejected as rejected:
                sentence = f"the registration's keys can't be used: {rejected}"
                batch.leave_out(adoption, Refused("key-material", rejected.cause, sentence))
        return records

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
            roster_digest=self.roster.digest() if self.blocks.possible else b"",
        )

    def _activation_ms(self, batch: Batch) -> int:
        return self.policy.ejection_activation_ms if batch.ejecting else self.policy.activation_ms

    def _next_epoch(self, now: float, old: int) -> int:
        """Never one that was, never less than the clock, never one whose tag could be taken for the last one's."""
        epoch = max(self.epoch + 1, round(now * 1000))
        while epoch_tag(epoch) == epoch_tag(old):
            epoch += 1
        return epoch

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
