"""A group of a peer domain's conference, keyed here for hosts of this domain (Harkins & Doraswamy, scheme `kd`).

The conference is at home at a peer's Authorizer, which draws the group's keys and admits everybody. This Authorizer is
a member there, and its delegate: it has a block of sender IDs and hands on the keys that it gets, under own KEKs.

    a host registers here -> statement, keys -> a sender ID of the block -> reported to the home (`adopt`)
    the home's update     -> new key, roster -> our own update, and the answers to hosts that are in the roster now
    a host leaves, lapses -> told to the home, which replaces the key; the host goes with the update that brings it

So nobody is in the group here whom the home's rules don't admit, and who is thrown out there is out here. Nothing is
kept on disk: after a restart hosts register again, under sender IDs of another block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcsa.distribution import covers
from mcsa.endpoint import Answer, Refuse, Requested
from mcsa.envelope import sign_envelope
from mcsa.errors import Refused, Rejected
from mcsa.gkm import Subordinate, scheme_named
from mcsa.gkm.interface import Authority
from mcsa.identity import Credentials
from mcsa.keys import GroupKey, Random
from mcsa.membership import Followed, Membership
from mcsa.registration import check_source_key, seal_association
from mcsa.sealing import check_public_key
from mcsa.updates import UPDATE_LIFETIME, beacon_message, group_recipient, seal_update, update_key, update_message
from mcsa.v1 import authorizer_pb2 as wire
from services.authorizer.events import Tell
from services.authorizer.kept_updates import KeptUpdates


@dataclass(slots=True)
class Newcomer:
    """A host of this domain that the home was told of."""

    request: Requested
    user: str
    sender_id: int

    @property
    def host(self) -> str:
        """SPIFFE ID."""
        return str(self.request.caller.id)


@dataclass(slots=True)
class Local:
    """A host of this domain that is in the group."""

    sender_id: int
    lease_ends_at: float


@dataclass
class Branch:
    """See the module. `membership` is this Authorizer's own, at the home."""

    membership: Membership
    right: wire.DistributionRight
    credentials: Credentials
    random: Random
    now: float
    number: int = 0
    newcomers: dict[int, Newcomer] = field(default_factory=dict)
    locals: dict[str, Local] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._gkm: Authority = scheme_named(self.membership.group.policy.gkm).create(self.random)
        self._updates = KeptUpdates()
        self._used = 0
        self.beacon_at = self.now
        self._impose(self.membership.key)
        self._gkm.change({}, [], replace_key=True)
        self._key, self._epoch = self.membership.key, self.membership.epoch

    @property
    def id(self) -> bytes:
        """16 bytes."""
        return self.membership.group.group_id

    @property
    def lease(self) -> float:
        """Seconds."""
        return self.membership.group.policy.lease_s

    # ---- hosts of this domain

    def announce(self, request: Requested, user: str) -> Newcomer:
        """A registration that is to be reported; `Refused` where its keys can't be used, or the block is used up."""
        message: wire.RegisterRequest = request.message
        check_source_key(message, self.membership.group.policy)
        try:
            check_public_key(message.hpke_suite, message.hpke_public_key)
            self._gkm.check_contribution(message.gkm_contribution)
        except Rejected as rejected:
            sentence = f"the registration's keys can't be used: {rejected}"
            raise Refused("key-material", rejected.cause, sentence) from None
        sender_id = self.right.first_sender_id + self._used
        if not covers(self.right, sender_id):
            raise Refused("busy", "sender-ids", "the home is asked for more sender IDs; ask again in a second")
        self._used += 1
        newcomer = self.newcomers[sender_id] = Newcomer(request, user, sender_id)
        return newcomer

    def restock(self, right: wire.DistributionRight) -> None:
        """The home's word, renewed: perhaps another block."""
        if right.first_sender_id != self.right.first_sender_id:
            self._used = 0
        self.right = right

    @property
    def is_used_up(self) -> bool:
        """There is nothing left to give, and nobody to be reported."""
        return self._used >= self.right.sender_ids and not self.newcomers

    def dismiss(self, sender_id: int, refused: Refused) -> list[Any]:
        """The home doesn't take a newcomer."""
        newcomer = self.newcomers.pop(sender_id, None)
        return [] if newcomer is None else [Refuse(newcomer.request.token, refused)]

    def renew(self, host: str, now: float) -> bool:
        """The host is still there; False where it isn't in."""
        if host in self.locals:
            self.locals[host].lease_ends_at = now + self.lease
        return host in self.locals

    def lapsed(self, now: float) -> list[str]:
        """Hosts whose lease has ended; each is named once in a lease."""
        found = [host for host, local in self.locals.items() if now >= local.lease_ends_at]
        for host in found:
            self.locals[host].lease_ends_at = now + self.lease
        return found

    def updates_since(self, number: int) -> list[bytes] | None:
        """See `KeptUpdates.since`."""
        return self._updates.since(number, self.number) if number <= self.number else None

    # ---- what the home says

    def follow(self, followed: Followed, now: float) -> list[Any]:
        """The home's update, handed on; and the answers to newcomers that it tells of.

        `Rejected("update")` where it takes hosts off and brings no key that they don't have.
        """
        update, gone = followed.update, set(followed.update.removed)
        leaving = sorted(host for host, local in self.locals.items() if local.sender_id in gone)
        came = [self.newcomers.pop(entry.sender_id) for entry in update.added if entry.sender_id in self.newcomers]
        if leaving and not update.gkm_rekey:
            raise Rejected("update", "hosts leave and the key stays")
        old_key, under_epoch = self._key, self._epoch
        if update.gkm_rekey:
            self._impose(followed.key)
        contributions = {newcomer.host: newcomer.request.message.gkm_contribution for newcomer in came}
        change = self._gkm.change(contributions, leaving, replace_key=bool(update.gkm_rekey))
        self._key, self._epoch = followed.key, update.epoch
        for host in leaving:
            del self.locals[host]
        for newcomer in came:
            self.locals[newcomer.host] = Local(newcomer.sender_id, now + self.lease)
        self.number += 1
        own = wire.GroupUpdate()
        own.CopyFrom(update)
        own.number, own.epoch, own.gkm_rekey = self.number, self._epoch, change.rekey
        own.ClearField("roster_digest")  # this Authorizer's own word on the roster is what its hosts have
        sealed = seal_update(
            own, under_epoch, update_key(old_key, self.id, under_epoch), self.credentials, self.random, now
        )
        self._updates.add(self.number, self._epoch, sealed)
        answers = [self._answer(newcomer, change.welcomes[newcomer.host], now) for newcomer in came]
        self.beacon_at = now
        return [Tell(self.id, update_message(sealed), update.traceparent or None), *answers]

    def _impose(self, key: GroupKey) -> None:
        assert isinstance(self._gkm, Subordinate)
        self._gkm.impose(key)

    def _answer(self, newcomer: Newcomer, welcome: bytes, now: float) -> Answer:
        membership = self.membership
        gsa = wire.GroupSecurityAssociation(
            group=membership.group,
            conference_id=membership.conference_id,
            description=membership.description,
            sender_id=newcomer.sender_id,
            update_number=self.number,
            roster=membership.roster.values(),
            gkm_welcome=welcome,
            epoch=self._epoch,
            time_ms=round(now * 1000),
        )
        request = newcomer.request
        sealed = seal_association(request.message, request.request_hash, b"", gsa)
        return Answer(request.token, wire.RegisterResponse(sealed_gsa=sealed))

    # ---- time

    def beacon(self, now: float) -> list[Any]:
        """Says which epoch the group is in, while this Authorizer itself hears the home."""
        self.beacon_at = now + self.membership.group.policy.beacon_ms / 1000
        if self.membership.state != "member":
            return []
        beacon = wire.Beacon(group_id=self.id, epoch=self._epoch, update_number=self.number, time_ms=round(now * 1000))
        raw, _ = sign_envelope(
            self.credentials, beacon, group_recipient(self.id), self.random(16), now + UPDATE_LIFETIME
        )
        return [Tell(self.id, beacon_message(raw))]

    def end(self) -> list[Any]:
        """This Authorizer is no member any more: hosts learn it when they ask, and register again."""
        refused = Refused("moved", "home", "the home has to take this domain in again; ask again in a second")
        return [Refuse(newcomer.request.token, refused) for newcomer in self.newcomers.values()]
