"""Joins that this host serves in groups whose members do so (`mcsa/distribution.py`). Sans-I/O.

    a right comes with an association or a renewal -> Distribute: requests to the group may come here
    request of a newcomer -> envelope, user's statement, access list, who was thrown out, own state
                          -> association and right for it, report to the Authorizer, repeated until answered
    right gone, host silenced, stale or out, sender IDs used up -> StopDistributing

A sender ID is given once, whatever becomes of who got it. Nothing here is kept over a restart: a host that registers
again gets another block, and what was not reported is for the newcomers to find out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcsa.addresses import is_canonical
from mcsa.distribution import access_list_hash, check_access, open_right, parse_access_list, unseal_access_list
from mcsa.endpoint import Answer, Count, Refuse, Requested
from mcsa.envelope import payload_hash
from mcsa.errors import Refused, Rejected
from mcsa.gkm import scheme_named
from mcsa.identity import Credentials
from mcsa.membership import Membership
from mcsa.registration import check_source_key, seal_association, verify_user_statement
from mcsa.sealing import SealingKey
from mcsa.trust import Trust
from mcsa.v1.authorizer_pb2 import (
    AccessList,
    AdoptRequest,
    DistributionRight,
    GroupSecurityAssociation,
    RegisterRequest,
    RegisterResponse,
    RenewRequest,
    RenewResponse,
)
from mcsa.v1.types_pb2 import SignedStatement
from services.msm.events import Distribute, StopDistributing
from services.msm.reports import Reports


@dataclass(frozen=True, slots=True)
class Renewing:
    """Token of a renewal; the key is for the access list."""

    group_id: bytes
    key: SealingKey | None = None
    request_hash: bytes = b""
    asked_at: float = 0.0


@dataclass(slots=True)
class _Post:
    """What this host may do in one group."""

    signed: SignedStatement
    right: DistributionRight
    raw_access_list: bytes
    access: AccessList
    next_sender_id: int

    @property
    def used_up(self) -> bool:
        return self.next_sender_id >= self.right.first_sender_id + self.right.sender_ids

    def in_force(self, now: float) -> bool:
        return now < self.right.expires_ms / 1000


@dataclass
class Distributing:
    """See the module."""

    credentials: Credentials
    trust: Trust
    reports: Reports = field(default_factory=Reports)
    _posts: dict[bytes, _Post] = field(default_factory=dict)
    _serving: set[bytes] = field(default_factory=set)

    # ---- rights

    def registered(self, membership: Membership, gsa: GroupSecurityAssociation, now: float) -> list[Any]:
        """A registration of this host: nothing of an earlier one goes on."""
        group_id = membership.group.group_id
        self._forget(group_id)
        if not gsa.HasField("distribution_right"):
            return []
        return self._take(membership, gsa.distribution_right, gsa.access_list, now)

    def renewal(self, membership: Membership, now: float) -> tuple[RenewRequest, Renewing]:
        """The request, and the token for its answer."""
        group_id, policy = membership.group.group_id, membership.group.policy
        if scheme_named(policy.gkm).distributors == "none":
            return RenewRequest(group_id=group_id), Renewing(group_id, asked_at=now)
        post, key = self._posts.get(group_id), SealingKey.generate(policy.hpke)
        request = RenewRequest(group_id=group_id, hpke_public_key=key.public)
        if post is not None:
            request.access_list = access_list_hash(post.raw_access_list)
            done = post.used_up and not self.reports.any_of(group_id)
            request.used_up = post.right.first_sender_id if done else 0
        return request, Renewing(group_id, key, payload_hash(request), now)

    def renewed(self, membership: Membership, token: Renewing, response: RenewResponse, now: float) -> list[Any]:
        """Its answer: without a right there is none any more."""
        post = self._posts.get(token.group_id)
        if not response.HasField("distribution_right"):
            self._posts.pop(token.group_id, None)
            return []
        raw = b"" if post is None else post.raw_access_list
        if response.sealed_access_list and token.key is not None:
            try:
                raw = unseal_access_list(token.key, token.request_hash, response.sealed_access_list)
            except Rejected as rejected:
                return [Count(f"rejected.right.{rejected.cause}")]
        return self._take(membership, response.distribution_right, raw, now)

    def _take(self, membership: Membership, signed: SignedStatement, raw: bytes, now: float) -> list[Any]:
        group_id = membership.group.group_id
        try:
            host = str(self.credentials.id)
            right = open_right(signed, membership.authorizer, group_id, host, self.trust, now)
            access = parse_access_list(raw, right)
        except Rejected as rejected:
            return [Count(f"rejected.right.{rejected.cause}")]
        post, first = self._posts.get(group_id), right.first_sender_id
        same = post is not None and post.right.first_sender_id == first
        next_sender_id = post.next_sender_id if post is not None and same else first
        self._posts[group_id] = _Post(signed, right, raw, access, next_sender_id)
        return []

    def settle(self, memberships: Mapping[bytes, Membership], now: float) -> list[Any]:
        """What has to change in what this host listens to. To be called after whatever may have changed it."""
        for group_id in [group_id for group_id in self._posts if not _stays(memberships.get(group_id))]:
            self._forget(group_id)
        able = {group_id for group_id, post in self._posts.items() if self._serves(post, memberships[group_id], now)}
        ended, begun = self._serving - able, able - self._serving
        self._serving = able
        return [*map(StopDistributing, sorted(ended)), *map(Distribute, sorted(begun))]

    def _serves(self, post: _Post, membership: Membership, now: float) -> bool:
        return post.in_force(now) and not post.used_up and membership.distributor is not None

    def _forget(self, group_id: bytes) -> None:
        self._posts.pop(group_id, None)
        self.reports.forget(group_id)

    # ---- newcomers

    def asked(self, request: Requested, membership: Membership | None, now: float) -> list[Any]:
        """A newcomer asks the group. It goes to the Authorizer where this host refuses."""
        try:
            post = self._decide(request, membership, now)
        except Refused as refused:
            return [Refuse(request.token, refused)]
        assert membership is not None
        sender_id = post.next_sender_id
        try:
            sealed = self._associate(membership, request, sender_id, now)
        except Rejected as rejected:
            refusal = Refused("key-material", rejected.cause, f"the registration's keys can't be used: {rejected}")
            return [Refuse(request.token, refusal)]
        post.next_sender_id += 1
        answer = Answer(request.token, RegisterResponse(sealed_gsa=sealed, right=post.signed))
        message = AdoptRequest(
            group_id=membership.group.group_id, request=request.raw, sender_id=sender_id, epoch=membership.epoch
        )
        report = self.reports.begin(message, membership.authorizer, now, request.traceparent)
        return [answer, report, Count("distributed")]

    def wake_at(self) -> float | None:
        """When `settle` is wanted: a right ends."""
        return min((self._posts[group_id].right.expires_ms / 1000 for group_id in self._serving), default=None)

    def check(self, request: Requested, membership: Membership | None, now: float) -> None:
        """Raises `Refused` where this request, which was answered, would not be answered again."""
        self._decide(request, membership, now)

    def _decide(self, request: Requested, membership: Membership | None, now: float) -> _Post:
        """What it is answered with: what the Authorizer will look at, looked at here."""
        message: RegisterRequest = request.message
        post = self._posts.get(request.group_id)
        if post is None or membership is None or not self._serves(post, membership, now):
            raise Refused("not-here", "distributor", "this host serves no joins of the group now")
        host = str(request.caller.id)
        if message.group_id != request.group_id or not message.sender or host == str(self.credentials.id):
            raise Refused("not-here", "distributor", "a distributor serves senders of its group, and not itself")
        if message.hpke_suite != membership.group.policy.hpke:
            sentence = f"this group's policy asks for HPKE suite '{membership.group.policy.hpke}'"
            raise Refused("policy", "group-policy.hpke", sentence)
        if not is_canonical(message.address):
            raise Refused("address", "source-address", "the host's own address is malformed")
        check_source_key(message, membership.group.policy)
        user = None
        if message.HasField("user_statement"):
            user = str(verify_user_statement(message, request.caller, membership.authorizer, self.trust, now).id)
        check_access(post.access, host, user)
        if not membership.departed.isdisjoint({host, user}):
            raise Refused("not-allowed", "departed", "the user or the host was thrown out, as far as is known here")
        return post

    def _associate(self, membership: Membership, request: Requested, sender_id: int, now: float) -> bytes:
        message: RegisterRequest = request.message
        assert membership.distributor is not None
        gsa = GroupSecurityAssociation(
            group=membership.group,
            conference_id=membership.conference_id,
            description=membership.description,
            sender_id=sender_id,
            update_number=membership.number,
            roster=membership.roster.values(),  # as the Authorizer told it: so without the newcomer
            gkm_welcome=membership.distributor.welcome(message.gkm_contribution),
            epoch=membership.epoch,
            time_ms=round(now * 1000),
        )
        return seal_association(message, request.request_hash, b"", gsa)


def _stays(membership: Membership | None) -> bool:
    return membership is not None and membership.state != "ejected"
