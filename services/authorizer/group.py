"""One group at the Authorizer: members, sender IDs, epochs, updates. Whether somebody may join is decided before.

Changes are collected for the policy's batch time and become one `GroupUpdate`. The key, the epoch, the roster and the
number change together, in `flush`, or not at all.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from mcsa.errors import Refused, Rejected
from mcsa.esp.spi import SENDER_ID_LIMIT, epoch_tag
from mcsa.gkm import Authority, scheme_named
from mcsa.identity import Credentials
from mcsa.keys import GroupKey, Random
from mcsa.registration import seal_association
from mcsa.sealing import check_public_key
from mcsa.updates import seal_update, update_key
from mcsa.v1.authorizer_pb2 import GroupSecurityAssociation, GroupUpdate, RegisterRequest
from mcsa.v1.types_pb2 import GroupDescription, RosterEntry, SignedStatement

UPDATES_KEPT = 256  # for members that missed some; who missed more registers again
MAX_SENDER_ID = SENDER_ID_LIMIT - 1


@dataclass(slots=True)
class Member:
    """A host in the group."""

    host: str
    address: str
    sender_id: int | None
    users: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Joiner:
    """A registration that was admitted and waits for the flush."""

    token: object
    request: RegisterRequest
    request_hash: bytes
    host: str
    user: str | None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush decided."""

    update: bytes  # a SealedUpdate; empty where nobody is there to hear it
    under_epoch: int
    associations: list[tuple[Joiner, bytes]]
    dismissed: list[Joiner]  # left or were thrown out while they waited
    traceparent: str | None


class Group:
    """See the module."""

    def __init__(
        self,
        description: GroupDescription,
        conference_id: bytes,
        signed_description: SignedStatement,
        authorizer: Credentials,
        address: str,
        random: Random,
        now: float,
    ) -> None:
        self.description = description
        self.conference_id = conference_id
        self.policy = description.policy
        self._signed_description = signed_description
        self._authorizer = authorizer
        self._random = random
        self._gkm: Authority = scheme_named(self.policy.gkm).create(random)
        self._next_sender_id = 1
        self.epoch = round(now * 1000)  # no less than the clock: a lost past can't come again (design, section 6)
        self.number = 0
        self.members: dict[str, Member] = {}
        self.own_sender_id = self._give_sender_id()
        entry = RosterEntry(sender_id=self.own_sender_id, host=str(authorizer.id), address=address)
        self.roster: dict[int, RosterEntry] = {self.own_sender_id: entry}
        self._joiners: dict[str, Joiner] = {}
        self._dismissed: list[Joiner] = []
        self._leaving: set[str] = set()
        self._changed: set[str] = set()
        self._departed: list[str] = []
        self._ejecting = False
        self._traceparent: str | None = None
        self.flush_at: float | None = None
        self.rekey_at = now + self.policy.rekey_s
        self._updates: deque[tuple[int, bytes]] = deque(maxlen=UPDATES_KEPT)

    @property
    def id(self) -> bytes:
        """16 bytes."""
        return self.description.group_id

    @property
    def key(self) -> GroupKey:
        """The group key of the current epoch."""
        return self._gkm.key

    # ---- changes asked for

    def join(self, joiner: Joiner, now: float) -> Joiner | None:
        """Admits a host, and the user it speaks for, at the next flush; returns the joiner it takes the place of.

        Raises `Refused` where the group has no sender ID left, or the request's key material can't be used.
        """
        if joiner.request.sender and self._next_sender_id + len(self._joiners) > MAX_SENDER_ID:
            raise Refused("exhausted", "sender-ids", "this group has no sender IDs left; convene anew")
        try:
            check_public_key(joiner.request.hpke_suite, joiner.request.hpke_public_key)
            self._gkm.check_contribution(joiner.request.gkm_contribution)
        except Rejected as rejected:
            raise Refused(
                "key-material", rejected.cause, f"the registration's keys can't be used: {rejected}"
            ) from None
        superseded = self._joiners.pop(joiner.host, None)
        self._joiners[joiner.host] = joiner
        self._due(now + self.policy.batch_ms / 1000, joiner.traceparent)
        return superseded

    def remove_user(self, user: str, now: float, *, host: str | None = None, eject: bool = False) -> bool:
        """Takes a user off; the host goes only with its last user. True where that changed anything."""
        touched = False
        waiting = [
            joiner.host for joiner in self._joiners.values() if joiner.user == user and host in (None, joiner.host)
        ]
        for name in waiting:
            self._dismissed.append(self._joiners.pop(name))
        for member in self.members.values():
            if user in member.users and host in (None, member.host):
                member.users.discard(user)
                self._departed.append(user)
                if member.users:
                    self._changed.add(member.host)
                else:
                    self._leaving.add(member.host)
                touched = True
        return self._removed(touched, now, eject=eject)

    def remove_host(self, host: str, now: float, *, eject: bool = False) -> bool:
        """Takes a host off, and all its users."""
        if host in self._joiners:
            self._dismissed.append(self._joiners.pop(host))
        member = self.members.get(host)
        if member is not None:
            self._departed += sorted(member.users)
            self._leaving.add(host)
        return self._removed(member is not None, now, eject=eject)

    def _removed(self, touched: bool, now: float, *, eject: bool) -> bool:
        if touched:
            self._ejecting = self._ejecting or eject
            # an ejection flushes the batch at once
            self._due(now if eject else now + self.policy.batch_ms / 1000, None)
        return touched

    def _due(self, at: float, traceparent: str | None) -> None:
        self._traceparent = self._traceparent or traceparent
        self.flush_at = at if self.flush_at is None else min(self.flush_at, at)

    def trace(self, traceparent: str | None) -> None:
        """The change at hand belongs to this trace."""
        self._traceparent = traceparent or self._traceparent

    # ---- carrying them out

    def flush(self, now: float) -> Flushed:
        """All changes asked for, as one; also replaces a key that has grown old."""
        joiners, self._joiners = list(self._joiners.values()), {}
        dismissed, self._dismissed = self._dismissed, []
        contributions, adding = {}, []
        for joiner in joiners:
            member = self.members.get(joiner.host)
            if member is not None and not joiner.request.sender and joiner.host not in self._leaving:
                adding.append(joiner)  # another user of a host that is in already
            else:
                contributions[joiner.host] = joiner.request.gkm_contribution
        old_key, under_epoch = self._gkm.key, self.epoch
        replacing = {host for host in contributions if host in self.members}
        leaving = sorted(self._leaving | replacing)
        had_members = bool(set(self.members) - set(leaving) - set(contributions))
        replace_key = (bool(contributions) and not self.policy.keep_key_on_join) or now >= self.rekey_at
        change = self._gkm.change(contributions, leaving, replace_key=replace_key)
        if self._gkm.key != old_key:
            self.epoch = self._next_epoch(now)
            self.rekey_at = now + self.policy.rekey_s
        removed = self._drop(leaving)
        added = [entry for joiner in joiners if joiner not in adding for entry in self._admit(joiner)]
        for joiner in adding:
            self.members[joiner.host].users.add(joiner.user or "")
            self._changed.add(joiner.host)
        self.number += 1
        update = self._update(change.rekey, added, removed)
        raw = seal_update(
            update, under_epoch, update_key(old_key, self.id, under_epoch), self._authorizer, self._random, now
        )
        self._updates.append((self.number, raw))
        associations = [
            (joiner, self._associate(joiner, change.welcomes.get(joiner.host, b""), now)) for joiner in joiners
        ]
        traceparent = self._traceparent
        self._changed, self._departed, self._leaving = set(), [], set()
        self._ejecting, self._traceparent, self.flush_at = False, None, None
        return Flushed(raw if had_members else b"", under_epoch, associations, dismissed, traceparent)

    def updates_since(self, number: int) -> list[bytes] | None:
        """The updates after `number`, in order; None where they are not all there any more."""
        if number > self.number:
            return None
        missing = [raw for at, raw in self._updates if at > number]
        return missing if len(missing) == self.number - number else None

    # ---- inside

    def _drop(self, hosts: list[str]) -> list[int]:
        removed = []
        for host in hosts:
            member = self.members.pop(host, None)
            if member is not None and member.sender_id is not None:
                del self.roster[member.sender_id]
                removed.append(member.sender_id)
        return removed

    def _admit(self, joiner: Joiner) -> list[RosterEntry]:
        sender_id = self._give_sender_id() if joiner.request.sender else None
        member = self.members.setdefault(joiner.host, Member(joiner.host, joiner.request.address, sender_id))
        if joiner.user is not None:
            member.users.add(joiner.user)
        if sender_id is None:
            return []
        member.sender_id = sender_id
        self.roster[sender_id] = self._entry(member)
        return [self.roster[sender_id]]

    def _entry(self, member: Member) -> RosterEntry:
        return RosterEntry(
            sender_id=member.sender_id or 0, host=member.host, users=sorted(member.users), address=member.address
        )

    def _update(self, rekey: bytes, added: list[RosterEntry], removed: list[int]) -> GroupUpdate:
        changed = [self._entry(self.members[host]) for host in sorted(self._changed) if host in self.members]
        for entry in changed:
            self.roster[entry.sender_id] = entry
        policy = self.policy
        ejecting = self._ejecting
        return GroupUpdate(
            group_id=self.id,
            number=self.number,
            epoch=self.epoch,
            gkm_rekey=rekey,
            added=added,
            removed=removed,
            changed=changed,
            departed_users=self._departed,
            ejection=ejecting,
            activation_ms=policy.ejection_activation_ms if ejecting else policy.activation_ms,
            deactivation_ms=policy.ejection_deactivation_ms if ejecting else policy.deactivation_ms,
            traceparent=self._traceparent or "",
        )

    def _associate(self, joiner: Joiner, welcome: bytes, now: float) -> bytes:
        member = self.members[joiner.host]
        gsa = GroupSecurityAssociation(
            group=self.description,
            conference_id=self.conference_id,
            description=self._signed_description,
            sender_id=member.sender_id if welcome else None,
            update_number=self.number,
            roster=self.roster.values(),
            gkm_welcome=welcome,
            epoch=self.epoch,
            next_sender_id=self._next_sender_id,
            time_ms=round(now * 1000),
        )
        return seal_association(joiner.request, joiner.request_hash, gsa)

    def _give_sender_id(self) -> int:
        sender_id = self._next_sender_id
        self._next_sender_id += 1
        return sender_id

    def _next_epoch(self, now: float) -> int:
        """Never one that was, never less than the clock, never one whose tag could be taken for the last one's."""
        epoch = max(self.epoch + 1, round(now * 1000))
        while epoch_tag(epoch) == epoch_tag(self.epoch):
            epoch += 1
        return epoch
