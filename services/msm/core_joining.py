"""How the MSM joins and leaves a group. Sans-I/O.

JoinGroup  -> OpenGroup (IGMP) -> GroupOpened -> Authorizer.register -> keys installed -> Answer
              (first, where members of the group serve joins: one of them; `distributing.py` is that one's side)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcsa import subjects
from mcsa.distribution import open_right
from mcsa.endpoint import Answer, Answered, Count, Refuse, Request, Requested
from mcsa.envelope import payload_hash
from mcsa.errors import Refused, Rejected
from mcsa.gkm import Joining, scheme_named
from mcsa.membership import Changed, Membership
from mcsa.registration import open_association
from mcsa.sealing import SealingKey
from mcsa.source_authentication import SourceKey
from mcsa.updates import group_recipient
from mcsa.v1 import authorizer_pb2 as authorizer_wire
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1.authorizer_pb2 import DistributionRight, GroupSecurityAssociation
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.core_groups import MsmGroups, Unanswered
from services.msm.events import CloseGroup, GroupFailed, GroupOpened, OpenGroup

NEARBY_WITHIN = 1.0  # seconds for a distributor to answer; after that the Authorizer is asked


@dataclass(slots=True)
class Join:
    """A JoinGroup being worked on."""

    token: object
    message: wire.JoinGroupRequest
    key: SealingKey
    joining: Joining | None = None
    source_key: SourceKey | None = None
    address: str = ""  # that it registers with
    asked_at: float = 0.0
    request_hash: bytes = b""
    traceparent: str | None = None
    association: GroupSecurityAssociation | None = None  # that waits for its subgroup to be opened


@dataclass(frozen=True, slots=True)
class Registering:
    group_id: bytes
    nearby: bool  # with a distributor of the group, not with the Authorizer


class MsmJoining(MsmGroups):
    """See the module."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._joins: dict[bytes, Join] = {}

    def _join_group(self, request: Requested, now: float) -> list[Any]:
        message: wire.JoinGroupRequest = request.message
        group = message.group
        serving = self._gpad.serving(message.authorizer, group.address)
        self.own_address(group.address)
        self.sending_only.check_not_here(group.group_id)
        key = self._prepared.take(message.user_statement.statement, now)
        if group.group_id in self._joins:
            raise Refused(
                "busy", "one-join-at-a-time", "another join of this group is under way; try again in a second"
            )
        scheme_named(group.policy.gkm)  # announced, and perhaps unknown
        self._joins[group.group_id] = Join(request.token, message, key, traceparent=request.traceparent)
        if group.group_id in self.memberships and self.memberships[group.group_id].socket_path:
            return self._register(group.group_id, now)
        host, home = str(self.credentials.id), message.authorizer
        membership = self.memberships[group.group_id] = Membership(
            group, serving, home, message.conference_id, host, self.trust, self.random
        )
        # of a protocol of subgroups, which address to join the Authorizer says
        return (
            self._register(group.group_id, now) if membership.has_subgroups else [OpenGroup(membership.domain, group)]
        )

    def _group_opened(self, event: GroupOpened, now: float) -> list[Any]:
        if event.group_id in self.sending_only.groups:
            return self.sending_only.opened(event.group_id, event.socket_path, now)
        for agency in self._agencies.values():
            if agency.backbone.group.group_id == event.group_id:
                return agency.opened(now)
        for asked_id, join in self._joins.items():
            if join.association is not None and join.association.group.group_id == event.group_id:
                entered = self.memberships[asked_id]
                entered.socket_path = event.socket_path
                if join.address != self.own_address(entered.group.address):  # it is in another network
                    return self._register(asked_id, now)
                return self._associated(asked_id, join.association, now)
        membership = self.memberships.get(event.group_id)
        if membership is None:
            return [CloseGroup(event.group_id)]
        membership.socket_path = event.socket_path
        nearby = scheme_named(membership.group.policy.gkm).distributors != "none"
        return self._register(event.group_id, now, nearby=nearby)

    def _not_opened(self, event: GroupFailed, now: float) -> list[Any]:
        if event.group_id in self.sending_only.groups:
            return self.sending_only.not_opened(event.group_id, event.sentence)
        for agency in self._agencies.values():
            if agency.backbone.group.group_id == event.group_id:
                return [*agency.again(now), Count("agent.not-opened")]
        membership = self._membership(event.group_id)
        asked_id = event.group_id if membership is None else membership.asked.group_id
        return self._join_refused(asked_id, Refused("group", "membership", event.sentence))

    def _register(self, group_id: bytes, now: float, *, nearby: bool = False) -> list[Any]:
        """With the Authorizer, or with a distributor `nearby`: that is, with whichever the bus picks. A host that was a
        member already goes to the Authorizer: what happened to it may have happened to the distributors too."""
        join, membership = self._joins[group_id], self.memberships[group_id]
        another_user = membership.state == "member" and bool(membership.users - {join.message.user})
        join.joining = membership.begin()
        join.source_key = None if another_user else membership.draw_source_key()
        if membership.state == "opening":
            membership.state = "registering"
        join.address = self.own_address(membership.group.address)
        request = authorizer_wire.RegisterRequest(
            group_id=group_id,
            hpke_public_key=join.key.public,
            hpke_suite=join.key.suite,
            user_statement=join.message.user_statement,
            sender=not another_user,
            another_user=another_user,
            address=join.address,
            gkm_contribution=join.joining.contribution,
            last_beacon=membership.last_beacon,
            asked_ms=round(now * 1000),
            source_key=b"" if join.source_key is None else join.source_key.public,
        )
        join.request_hash, join.asked_at = payload_hash(request), now
        token, trace = Registering(group_id, nearby), join.traceparent
        if nearby:
            verb, group = group_id.hex(), group_recipient(group_id)
            return [
                Request(subjects.DISTRIBUTOR, verb, request, group, token, NEARBY_WITHIN, trace, any_host=True),
            ]
        return [Request(subjects.AUTHORIZER, "register", request, membership.authorizer, token, traceparent=trace)]

    def _registered(self, event: Answered, nearby: bool, now: float) -> list[Any]:
        group_id = event.token.group_id  # type: ignore[attr-defined] # a Registering
        join = self._joins.get(group_id)
        membership = self.memberships.get(group_id)
        if join is None or membership is None:
            return []
        try:
            gsa = open_association(join.key, join.request_hash, event.message.sealed_gsa)
            right = self._open_right(event, membership, now) if nearby else None
        except Rejected as rejected:
            return self._not_associated(group_id, rejected, now, nearby=nearby)
        if right is None and _has_moved(membership, gsa):
            return self._follow_move(join, membership, gsa, now)
        if not membership.has_subgroups or (membership.socket_path and membership.group.group_id == gsa.group.group_id):
            return self._associated(group_id, gsa, now, right)
        return self._enter_subgroup(join, membership, gsa, now)

    def _not_registered(self, token: Registering, refusal: Refused, now: float) -> list[Any]:
        """The Authorizer's word is the last; a distributor's isn't: it may be anybody's."""
        if not token.nearby:
            return self._join_refused(token.group_id, refusal)
        known = refusal.code in ("no-answer", "nobody-serves")
        counted = Count(f"distributor.{refusal.code if known else 'refused'}")
        return [counted, *self._register(token.group_id, now)] if token.group_id in self._joins else [counted]

    # ---- the Authorizer's answer

    def _follow_move(self, join: Join, membership: Membership, gsa: GroupSecurityAssociation, now: float) -> list[Any]:
        """The Authorizer has moved the group since it was announced, or since this host joined it."""
        before = membership.asked
        membership.asked = GroupDescription()
        membership.asked.CopyFrom(before)
        membership.asked.address = gsa.group.address
        effects = self._enter_subgroup(join, membership, gsa, now)
        if join.association is None:  # the Authorizer may not key groups there, on this host
            membership.asked = before
        return effects

    def _enter_subgroup(
        self, join: Join, membership: Membership, gsa: GroupSecurityAssociation, now: float
    ) -> list[Any]:
        """The Authorizer's choice, once it is found good."""
        try:
            membership.check(gsa)
            if self._gpad.serving(membership.home, gsa.group.address) != membership.authorizer:
                raise Rejected("association", "of a subgroup whose address is another Authorizer's to key here")
            self.own_address(gsa.group.address)
        except Rejected as rejected:
            return self._not_associated(membership.asked.group_id, rejected, now)
        except Refused as refused:
            return self._join_refused(membership.asked.group_id, refused)
        join.association = gsa
        left = self._end_agency(membership.asked.group_id)  # first: the backbone that it has open may be where to go
        left += [CloseGroup(membership.group.group_id)] if membership.socket_path else []
        membership.enter(gsa.group)
        return [*left, OpenGroup(membership.domain, gsa.group)]

    def _not_associated(self, group_id: bytes, rejected: Rejected, now: float, *, nearby: bool = False) -> list[Any]:
        if nearby:  # it may have been anybody's answer
            return [Count(f"rejected.distributor.{rejected.cause}"), *self._register(group_id, now)]
        sentence = f"the Authorizer's answer could not be used: {rejected}"
        return self._join_refused(group_id, Refused("association", rejected.cause, sentence))

    def _associated(
        self, group_id: bytes, gsa: GroupSecurityAssociation, now: float, right: DistributionRight | None = None
    ) -> list[Any]:
        join, membership = self._joins.pop(group_id), self.memberships[group_id]
        effects: list[Any] = []
        rejoined = membership.state == "stale"
        try:
            # there is no welcome where the host was a member and a user was added
            if join.joining is not None and (gsa.gkm_welcome or right is not None):
                effects += membership.install(join.joining, gsa, now, right, join.source_key)
                effects += membership.clock_heard(join.asked_at, gsa.time_ms, now) if right is None else []
                effects += self._distributing.registered(membership, gsa, now)
        except Rejected as rejected:
            self._joins[group_id] = join
            return self._not_associated(group_id, rejected, now, nearby=right is not None)
        membership.users.add(join.message.user)
        answer = wire.JoinGroupResponse(
            socket_path=membership.socket_path,
            sender_id=membership.sender_id or 0,
            description=membership.description,
            roster=membership.roster.values(),
            epoch=membership.epoch,
            address=membership.asked.address,
        )
        effects.append(Answer(join.token, answer))
        if rejoined:
            effects += self._follow(membership, [Changed("rejoined", "", join.traceparent)], now)
        return effects + self._relay(membership)

    def _open_right(self, event: Answered, membership: Membership, now: float) -> DistributionRight:
        """By which whoever answered may welcome."""
        group_id, host = membership.group.group_id, str(event.sender.id)
        return open_right(event.message.right, membership.authorizer, group_id, host, self.trust, now)

    def _join_refused(self, group_id: bytes, refused: Refused) -> list[Any]:
        join = self._joins.pop(group_id, None)
        membership = self.memberships.get(group_id)
        effects: list[Any] = []
        if membership is not None and membership.state in ("opening", "registering"):
            del self.memberships[group_id]
            effects.append(CloseGroup(membership.group.group_id))
        return effects if join is None else [*effects, Refuse(join.token, refused)]

    # ---- leaving

    def _leave_group(self, request: Requested, now: float) -> list[Any]:
        group_id, user = request.message.group_id, request.message.user
        membership = self.memberships.get(group_id)
        answer = Answer(request.token, wire.LeaveGroupResponse())
        if membership is None:
            return [answer]
        membership.users.discard(user)
        ended = membership.state == "ejected"
        last = not membership.users
        message = authorizer_wire.LeaveRequest(group_id=membership.group.group_id, user="" if last else user)
        effects: list[Any] = []
        if not ended:
            effects.append(
                Request(
                    subjects.AUTHORIZER,
                    "leave",
                    message,
                    membership.authorizer,
                    Unanswered(),
                    traceparent=request.traceparent,
                )
            )
        if last:
            del self.memberships[group_id]
            effects.append(CloseGroup(membership.group.group_id))
            effects += self._end_agency(group_id)
            self._forgeries.forget(group_id)
        return [*effects, answer]


def _has_moved(membership: Membership, gsa: GroupSecurityAssociation) -> bool:
    """The association is of the very group that was asked for, at another address."""
    asked = membership.asked
    same = not membership.has_subgroups and gsa.group.group_id == asked.group_id
    return same and gsa.group.address != asked.address
