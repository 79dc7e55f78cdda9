"""What the MSM has of each group: memberships, relaying agents, what is told of them. Sans-I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mcsa import subjects
from mcsa.conference_id import group_id_of
from mcsa.endpoint import Count, Publish, Request
from mcsa.errors import Rejected
from mcsa.identity import Credentials
from mcsa.keys import Random
from mcsa.membership import Changed, Membership, RenewalWanted, RepairWanted
from mcsa.networks import Networks
from mcsa.send_only import SendOnlyGroup
from mcsa.source_authentication import mode_named
from mcsa.trust import Trust
from mcsa.v1 import authorizer_pb2 as authorizer_wire
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1.types_pb2 import SessionAnnouncement
from services.msm.agency import Agency
from services.msm.announcing import Announcing, Own, WithdrawalKey
from services.msm.clashes import worst_clash
from services.msm.distributing import Distributing
from services.msm.events import ClockSet, GroupMessage, NetworkChanged, SourceForged, UnknownEpochSeen
from services.msm.forgeries import Forgeries, remark
from services.msm.gpad import Accepted, Gpad
from services.msm.prepared import Prepared
from services.msm.sending_only import SendingOnly
from services.msm.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator decides."""

    networks: Networks
    directory: str
    accepts: Sequence[Accepted]
    hpke_suite: str = "x25519"
    withdrawal_key: WithdrawalKey | None = None  # of earlier processes of this host, too


@dataclass(frozen=True, slots=True)
class Repairing:
    group_id: bytes


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nobody waits for this one."""


def _not_known(_: bytes) -> int:
    return 0


def _no_counters(_: bytes) -> Mapping[str, int]:
    return {}


@dataclass
class MsmGroups:
    """See the module."""

    credentials: Credentials
    trust: Trust
    random: Random
    settings: Settings
    path_counters: Callable[[bytes], Mapping[str, int]] = _no_counters
    largest_payload: Callable[[bytes], int] = _not_known
    memberships: dict[bytes, Membership] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._prepared = Prepared(str(self.credentials.id), self.random, self.settings.hpke_suite)
        self._agencies: dict[bytes, Agency] = {}  # by the group that was asked for
        self._gpad = Gpad(self.settings.accepts)
        settings = self.settings
        key = settings.withdrawal_key or WithdrawalKey.draw(self.random)
        recover = settings.withdrawal_key is not None
        self._announcing = Announcing(key, settings.directory, recover=recover, clashed=self._announcement_clashes)
        self._sessions = Sessions(self.credentials, self.trust, settings.directory, self._gpad, self._announcing)
        self._distributing = Distributing(self.credentials, self.trust)
        self._forgeries = Forgeries()
        self.sending_only = SendingOnly(
            self.credentials,
            self.trust,
            self.random,
            self.own_address,
            self._gpad,
            self._prepared,
            lambda: {*self.memberships, *(each.group.group_id for each in self._all_memberships())},
        )

    @property
    def _origin(self) -> str:
        """This host's address as its announcements have it (o=)."""
        return self.settings.networks.default.source

    def own_address(self, group: str) -> str:
        """In the network of the group at this address; `Refused` where this host isn't in it."""
        return self.settings.networks.own_address(group)

    def _all_memberships(self) -> list[Membership]:
        """Those that this host has as a relaying agent, too."""
        return [*self.memberships.values(), *(agency.backbone for agency in self._agencies.values())]

    def _membership(self, group_id: bytes) -> Membership | None:
        """Of the group, or subgroup, with that id."""
        return next((each for each in self._all_memberships() if each.group.group_id == group_id), None)

    def _serving(self, conference_id: bytes, authorizer: str) -> str:
        """Whom to ask about a conference at home at `authorizer`: where this host is in it, who serves it there."""
        for membership in self.memberships.values():
            if (membership.conference_id, membership.home) == (conference_id, authorizer):
                return membership.authorizer
        return self._gpad.serving(authorizer)

    # ---- what memberships wish

    def _follow(self, membership: Membership, effects: Sequence[Any], now: float) -> list[Any]:
        """Turns a membership's wishes into requests and events; passes the packet path's effects on."""
        out: list[Any] = []
        for effect in effects:
            if isinstance(effect, RepairWanted):
                group_id = membership.group.group_id
                message = authorizer_wire.RepairRequest(group_id=group_id, have_number=effect.have_number)
                out.append(
                    Request(
                        subjects.AUTHORIZER, "repair", message, membership.authorizer, Repairing(group_id), within=3.0
                    )
                )
            elif isinstance(effect, RenewalWanted):
                renewal, token = self._distributing.renewal(membership, now)
                out.append(Request(subjects.AUTHORIZER, "renew", renewal, membership.authorizer, token))
            elif isinstance(effect, Changed):
                out += self._changed(membership, effect, now)
            else:
                out.append(effect)
        return out if membership.as_agent else out + self._relay(membership)

    def _changed(self, membership: Membership, changed: Changed, now: float) -> list[Any]:
        if not membership.as_agent:
            return [self._tell(membership, changed)]
        ended = changed.what in ("statement-needed", "ejected")
        agencies = [agency for agency in self._agencies.values() if agency.backbone is membership and ended]
        return [effect for agency in agencies for effect in agency.again(now)]

    def _register_anew(self, group_id: bytes, why: str, now: float) -> list[Any]:
        membership = self._membership(group_id)
        if membership is None:
            return []
        return self._follow(membership, [Changed("statement-needed", why)], now)

    def _lost(self, group_id: bytes, now: float) -> list[Any]:
        membership = self._membership(group_id)
        if membership is None:
            return []
        return self._follow(membership, membership.lost("the Authorizer doesn't know this host as a member"), now)

    def _group_message(self, event: GroupMessage, now: float) -> list[Any]:
        if event.group_id in self.sending_only.groups:
            return self.sending_only.message(event, now)
        membership = self._membership(event.group_id)
        if membership is None:
            return []
        try:
            return self._follow(membership, membership.message_arrived(event.payload, now), now)
        except Rejected as rejected:
            return [Count(f"rejected.update.{rejected.cause}")]

    def _woken(self, now: float) -> list[Any]:
        effects: list[Any] = [*self._distributing.reports.woken(now), *self._announcing.woken(now)]
        effects += self.sending_only.woken(now)
        for membership in self._all_memberships():
            effects += self._follow(membership, membership.woken(now), now)
        for agency in list(self._agencies.values()):
            effects += agency.woken(now)
        return effects

    def _noticed(self, event: UnknownEpochSeen | ClockSet, now: float) -> list[Any]:
        """By a group's packet path."""
        membership = self._membership(event.group_id)
        if isinstance(event, ClockSet):
            group = membership or self.sending_only.groups.get(event.group_id)
            return [] if group is None else group.clock_set(now)
        return [] if membership is None else membership.hint(now)

    def _sequence_low(self, group_id: bytes, now: float) -> list[Any]:
        if group_id in self.sending_only.groups:
            return self.sending_only.sequence_low(group_id)
        return self._register_anew(group_id, "sequence numbers run out", now)

    def _network_changed(self, event: NetworkChanged, now: float) -> list[Any]:
        """Rosters name addresses: with another one this host is nobody in that network's groups until it has registered
        again."""
        before = self.settings.networks
        self.settings = replace(self.settings, networks=before.changed(event.name, event.network))
        if event.network.source == before.named[event.name].source:
            return []
        effects = self.sending_only.moved(lambda group: before.name_of(group) == event.name)
        for membership in self._all_memberships():
            if before.name_of(membership.group.address) == event.name:
                effects += self._follow(membership, membership.lost("this host has another address now"), now)
        return effects

    # ---- relaying agents

    def _relay(self, membership: Membership) -> list[Any]:
        """This host may have become its subgroup's relaying agent, or be it no longer."""
        asked_id, effects = membership.asked.group_id, list[Any]()
        agency = self._agencies.get(asked_id)
        if agency is not None and agency.is_over:
            effects += self._end_agency(asked_id)
            agency = None
        if agency is None and membership.is_agent:
            agency = self._agencies[asked_id] = Agency(membership, self.own_address)
            effects += agency.begin()
        return effects

    def _end_agency(self, asked_id: bytes) -> list[Any]:
        """Who is no agent any more is off the backbone by the Authorizer's word."""
        agency = self._agencies.pop(asked_id, None)
        return [] if agency is None else agency.end()

    def _agency(self, leaf_id: bytes) -> Agency | None:
        return next((agency for agency in self._agencies.values() if agency.leaf_id == leaf_id), None)

    # ---- what the CSM is told

    def _tell(self, membership: Membership, changed: Changed, forgery: wire.SourceForgery | None = None) -> Publish:
        message = wire.GroupChanged(
            group_id=membership.asked.group_id,
            change=changed.what,
            epoch=membership.epoch,
            roster=membership.roster.values() if forgery is None else (),  # it is as it was
            remark=changed.remark,
            update_number=membership.number,
            traceparent=changed.traceparent or "",
            switched_ms=round(changed.switched_at * 1000),
            forgery=forgery,
        )
        subject = subjects.subject(subjects.CSM, self.credentials.id.token, subjects.GROUP_CHANGED)
        return Publish(subject, message, str(self.credentials.id), changed.traceparent)

    def _describe(self, membership: Membership | SendOnlyGroup) -> wire.GroupState:
        roster = membership.roster.values() if isinstance(membership, Membership) else ()  # told to members
        asked_id = membership.asked.group_id if isinstance(membership, Membership) else b""
        policy = membership.group.policy
        network = self.settings.networks.of(membership.group.address)
        return wire.GroupState(
            group=membership.group,
            epoch=membership.epoch,
            sender_id=membership.sender_id or 0,
            roster=roster,
            packets=self.path_counters(membership.group.group_id),
            state=membership.state,
            epochs=membership.epochs,
            switched_ms=round(membership.switched_at * 1000),
            largest_payload=self.largest_payload(membership.group.group_id),
            network=network.trouble,
            own_address=network.source,
            interface=network.interface,
            forgeries=self._forgeries.of(asked_id),
            source_overhead=mode_named(policy.source_authentication).overhead(policy),
        )

    def _source_forged(self, event: SourceForged, now: float) -> list[Any]:
        membership = self._membership(event.group_id)
        if membership is None:
            return []
        forgery = self._forgeries.take(event, membership, now)
        return [self._tell(membership, Changed("forgery", remark(forgery)), forgery)]

    def _announcement_clashes(
        self, own: Own, clashes: Iterable[SessionAnnouncement], announced_at: float, now: float
    ) -> list[Any]:
        """The Coordinator's CSM decides what comes of it."""
        change, remark = worst_clash(own.sdp, clashes, announced_at)
        message = wire.GroupChanged(group_id=group_id_of(own.conference_id, 0), change=change, remark=remark)
        subject = subjects.subject(subjects.CSM, self.credentials.id.token, subjects.GROUP_CHANGED)
        return [Publish(subject, message, str(self.credentials.id), None)]
