"""The Authorizer's decisions (paper, section 3.1): who is admitted, which keys a group has. Sans-I/O.

    Requested(create)      -> records of conference and groups ... stored -> Answer
    Requested(register)    -> statement, rules, batch ... flush, its record stored -> Answer (GSA), update to all
    Requested(evict|leave) -> rules, batch or at once ... flush, its record stored -> Answer, update to all
    Requested(register-sender|renew-sender) -> a host that sends and is no member (`send_only.py`)
    Requested(adopt)       -> a member that another one welcomed, likewise (`distributing.py`)
    time                   -> flushes, beacons, replaced keys, ended leases, snapshots
    Loaded                 -> what an earlier process decided, taken over under fresh keys (`groups.py`)

Everything that anybody is told was stored before (`journal.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from mcsa.conference_id import conference_id_of
from mcsa.endpoint import Answer, Answered, Count, Failed, Published, Refuse, Requested, Woken
from mcsa.errors import Refused, Rejected
from mcsa.gkm import scheme_named
from mcsa.identity import Credentials, Identity, SpiffeId
from mcsa.keys import Random
from mcsa.networks import Networks
from mcsa.registration import verify_user_statement
from mcsa.statements import COUNTERSIGNATURE_LABEL, EVICTION_LABEL, RELOCATION_LABEL
from mcsa.trust import Trust
from mcsa.updates import open_old_beacon
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.authorizer_log_pb2 import ConferenceRecord
from services.authorizer import alarms
from services.authorizer.addresses import AddressPools, check_source
from services.authorizer.batch import Joiner
from services.authorizer.branches import Branches
from services.authorizer.conference import Conference, conference_log
from services.authorizer.creating import Addressing, complete_groups, new_addresses, open_description
from services.authorizer.distributing import Distributing
from services.authorizer.events import Appended, Decided, Fenced, FromHome, HomeTold, Loaded
from services.authorizer.group import Group
from services.authorizer.group_state import AGENT
from services.authorizer.groups import Groups
from services.authorizer.journal import MAX_ENTRY, Gate
from services.authorizer.rules import Resource, Rules
from services.authorizer.send_only import SendOnly

MAX_NAMES = 10_000  # in one access control list
ADDRESSES_AVOIDED = 1_024  # that one request says are in use
CREATION_SKEW = 600.0  # seconds by which an eviction's own time may differ: it is for the record


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator decides."""

    pools: AddressPools = field(default_factory=AddressPools)
    networks: Networks = field(default_factory=partial(Networks.only, "127.0.0.1"))  # that its own packets go out in
    homes: Sequence[str] = ()  # Authorizers of peers whose groups this one keys for hosts of its own domain
    subordinates: Sequence[str] = ()  # Authorizers of peers that do so with groups of this one
    distributors: Sequence[str] = ("*",)  # patterns of hosts that may serve joins, in groups where members do


class AuthorizerCore:
    """See the module."""

    def __init__(
        self, credentials: Credentials, trust: Trust, random: Random, settings: Settings, rules: Rules | None = None
    ) -> None:
        self._credentials = credentials
        self._trust = trust
        self._random = random
        self._settings = settings
        self._rules = rules or Rules(credentials.id.domain)
        self._kept = Groups(credentials, random, settings.networks, settings.pools, settings.distributors)
        self._distributing = Distributing(credentials, trust, self._kept, self._admit)
        self._send_only = SendOnly(trust, self._rules, self._kept, self._believe)
        self._subordinate_domains = {SpiffeId.parse(name).domain for name in settings.subordinates}
        self._branches = Branches(credentials, trust, random, settings.networks.default.source, settings.homes)
        self._verbs: dict[str, Callable[[Requested, float], list[Any]]] = {
            "create": self._create,
            "register": self._register,
            "register-sender": self._send_only.register,
            "renew-sender": self._send_only.renew,
            "adopt": self._distributing.adopt,
            "repair": self._repair,
            "renew": self._renew,
            "leave": self._leave,
            "evict": self._evict,
            "move": self._move,
            "certificate": self._certificate,
            "countersign": self._countersign,
        }

    @property
    def conferences(self) -> dict[bytes, Conference]:
        """All of them, by id."""
        return self._kept.conferences

    @property
    def groups(self) -> dict[bytes, Group]:
        """Those that are served, by id."""
        return self._kept.groups

    # ---- the core's interface

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `mcsa.endpoint.Core`."""
        match event:
            case Requested():
                try:
                    own = self._verbs[event.verb]
                    elsewhere = self._branches.requested(event, now)
                    return own(event, now) if elsewhere is None else elsewhere
                except Refused as refused:
                    return [*self._kept.wanted(now), Refuse(event.token, refused)]
            case Woken():
                return [*self._kept.woken(now), *self._branches.woken(now)]
            case FromHome():
                return self._branches.from_home(event, now)
            case HomeTold():
                return self._branches.told(event, now)
            case Appended():
                return self._kept.appended(event.log, now)
            case Fenced():
                return self._kept.fenced(event.log, now, elsewhere=event.elsewhere)
            case Loaded():
                return self._kept.loaded([event], now)
            case Answered() | Failed() | Published():
                return []  # the Authorizer asks nobody
        raise TypeError(event)

    def reauthorise(self, request: Requested, now: float) -> None:
        """See `mcsa.endpoint.Core`."""
        if request.verb == "register":
            self._admit(request, now)
        elif request.verb in ("register-sender", "renew-sender"):
            self._send_only.reauthorise(request, now)

    def wake_at(self) -> float | None:
        """See `mcsa.endpoint.Core`."""
        times = (self._kept.wake_at(), self._branches.wake_at())
        return min((at for at in times if at is not None), default=None)

    def restore(self, logs: list[Loaded], now: float) -> list[Any]:
        """What an earlier process decided, of which these are all the logs there are."""
        return self._kept.loaded(logs, now, all_there_are=True)

    # ---- create

    def _create(self, request: Requested, now: float) -> list[Any]:
        message = request.message
        if request.caller.id.kind != "host":
            raise Refused("not-allowed", "hosts-create", "a conference is created through a host of the domain")
        signed = message.description
        coordinator, description = open_description(signed, str(self._credentials.id), self._trust, now)
        conference_id = conference_id_of(coordinator, signed.statement)
        known = self.conferences.get(conference_id)
        if known is not None:
            return self._kept.once_created(conference_id, lambda _: [Answer(request.token, _created(known))], now)
        lists = message.access.acceptable_users, message.access.unacceptable_users, message.access.acceptable_senders
        if any(len(names) > MAX_NAMES for names in lists):
            raise Refused("too-many", "access-control", f"an access control list has at most {MAX_NAMES} names")
        own = str(self._credentials.id)
        resource = Resource(conference_id.hex(), coordinator, description.policy_class, message.access, own)
        rule = self._rules.check(coordinator, "create", resource)
        taken = self._kept.addresses()
        in_use = message.addresses_in_use[:ADDRESSES_AVOIDED]
        addressing = Addressing(self._settings.pools, self._settings.networks, message.address)
        groups = complete_groups(signed, coordinator, description, addressing, taken, in_use)
        conference = Conference.created(message, coordinator, groups)
        if conference.record().ByteSize() > MAX_ENTRY:
            raise Refused("too-many", "access-control", "the access control list is too long to be kept in one record")
        effects = self._kept.create(conference, now)
        answered = self._kept.once_created(conference_id, lambda _: [Answer(request.token, _created(conference))], now)
        return [Decided(coordinator, "create", conference_id.hex(), allowed=True, rule=rule), *effects, *answered]

    # ---- register

    def _register(self, request: Requested, now: float) -> list[Any]:
        group, user, rule = self._admit(request, now)
        host = _member_name(request)
        group, effects = self._kept.place(group.id, host, now)
        effects += self._believe(group, request.message.last_beacon, now)
        if not self._kept.has(group):  # what the member shows made us give it up
            effects.append(Refuse(request.token, Refused("moved", "evidence", "the group begins anew; ask again")))
            return effects
        joiner = Joiner(
            request.token,
            request.message,
            request.request_hash,
            host,
            None if user is None else str(user.id),
            request.traceparent,
        )
        try:
            superseded = group.join(joiner, now)
        except Refused as refused:  # what was decided on the way, a new subgroup say, has to be stored all the same
            return [*effects, Refuse(request.token, refused)]
        who = host if user is None else f"{user.id} on {host}"
        effects.append(Decided(who, "join", group.id.hex(), allowed=True, rule=rule))
        if superseded is not None:
            sentence = "the same host has registered again meanwhile"
            effects.append(Refuse(superseded.token, Refused("superseded", "one-registration", sentence)))
        return effects + self._kept.flush_if_due(group, now)

    def _admit(self, request: Requested, now: float) -> tuple[Group, Identity | None, str]:
        """The group and the user, where the rules allow host and user; `Refused` otherwise."""
        message = request.message
        group = self._kept.find_group(message.group_id)
        host = request.caller
        if message.hpke_suite != group.policy.hpke:
            sentence = f"this group's policy asks for HPKE suite '{group.policy.hpke}', not '{message.hpke_suite}'"
            raise Refused("policy", "group-policy.hpke", sentence)
        check_source(message.address)
        if host.id.kind == "authorizer":
            return group, None, self._subordinate(group, host)
        if message.relay:
            return group, None, self._appointed(group, str(host.id))
        conference = self._kept.find_conference(group.conference_id)
        resource = conference.resource()
        user = None
        if message.HasField("user_statement"):
            user = verify_user_statement(message, host, conference.authorizer, self._trust, now)
        principals = [str(who.id) for who in (host, user) if who is not None]
        through = host.id.domain if host.id.domain in self._subordinate_domains else ""
        rules = self._rules.check_all(principals, "join", resource, with_user=user is not None, through=through)
        return group, user, rules[-1]

    def _spoken_for(self, request: Requested) -> str:
        """The host that a subordinate Authorizer speaks for: one of its own domain."""
        host, caller = request.message.host, request.caller.id
        own = host.startswith(f"spiffe://{caller.domain}/host/") and caller.kind == "authorizer"
        if not own and host != str(caller):
            raise Refused("not-allowed", "own-hosts-only", f"{caller} doesn't speak for {host}")
        return str(host)

    def _subordinate(self, group: Group, authorizer: Identity) -> str:
        """A peer's Authorizer becomes a member that serves joins, of hosts that it reports before it answers them."""
        if str(authorizer.id) not in self._settings.subordinates:
            raise Refused("not-allowed", "subordinates-only", f"{authorizer.id} keys no groups of this domain")
        if scheme_named(group.policy.gkm).distributors != "appointed":
            sentence = "other domains take part in groups keyed by 'kd' only; convene with gkm 'kd'"
            raise Refused("policy", "group-policy.gkm", sentence)
        return "subordinate-authorizer"

    def _appointed(self, group: Group, host: str) -> str:
        star = self._kept.star(group.id)
        if star is None or not star.appointed_by(host):
            raise Refused("not-allowed", "appointed-agents-only", f"{host} is no relaying agent of this group")
        return "appointed-relaying-agent"

    def _believe(self, group: Group, raw: bytes, now: float) -> list[Any]:
        """Our own word, which a member kept: is it later than what the group's log knows, the log has lost its end."""
        if not raw:
            return []
        try:
            beacon = open_old_beacon(raw, group.id, self._trust, str(self._credentials.id), now)
        except Rejected as rejected:
            return [Count(f"rejected.evidence.{rejected.cause}")]
        if not group.is_outlived_by(beacon):
            return []
        return [alarms.rolled_back(group.id, beacon), *self._kept.begin_anew(group, now, after=beacon)]

    # ---- renew, leave, evict, repair

    def _renew(self, request: Requested, now: float) -> list[Any]:
        group = self._kept.find_group(request.message.group_id)
        known = [name for name in _member_names(request) if group.renew(name, now)]
        if known and request.caller.id.kind == "authorizer":  # it speaks for its hosts: who is gone it says
            for host in group.hosts_of_domain(request.caller.id.domain):
                group.renew(host, now)
        if not known:
            return [Answer(request.token, wire.RenewResponse(register_again=True))]
        return self._distributing.renew(group, request, now)

    def _leave(self, request: Requested, now: float) -> list[Any]:
        group = self._kept.find_group(request.message.group_id)
        host = str(request.caller.id)  # which leaves as an agent when it leaves its own subgroup (`Star.settle`)
        if request.message.host:
            host = self._spoken_for(request)
        if request.message.user:
            touched = group.remove_user(request.message.user, now, host=host)
        else:
            touched = group.remove_host(host, now)
        group.batch.trace(request.traceparent)
        answer = Answer(request.token, wire.LeaveResponse())
        if not touched:
            return [answer]
        group.batch.then.append(lambda _: [answer])
        return self._kept.flush_if_due(group, now)

    def _evict(self, request: Requested, now: float) -> list[Any]:
        signed = request.message.eviction
        try:
            signer = self._trust.open_statement(signed, EVICTION_LABEL, now, peers=True)
            eviction = wire.Eviction.FromString(signed.statement)
        except (Rejected, DecodeError) as error:
            raise Refused("eviction", "signature", f"the eviction was not accepted: {error}") from None
        conference = self._kept.find_conference(eviction.conference_id)
        groups = self._kept.groups_of(conference)
        if abs(eviction.time_ms / 1000 - now) > CREATION_SKEW:
            raise Refused("eviction", "time", "the eviction was signed too long ago; is the clock right?")
        rule = self._rules.check(str(signer.id), "evict", conference.resource())
        conference.ban(eviction.subject)
        gate = Gate(
            lambda _: [Answer(request.token, wire.EvictResponse(epochs=[group.told.epoch for group in groups]))]
        )
        effects: list[Any] = [
            Decided(str(signer.id), f"evict {eviction.subject}", conference.id.hex(), allowed=True, rule=rule)
        ]
        for group in self._kept.eject(groups, eviction.subject, now):
            group.batch.trace(request.traceparent)
            group.batch.then.append(gate.wait())
            effects += self._kept.flush_if_due(group, now)
        record = ConferenceRecord(banned=[eviction.subject])
        effects += self._kept.commit(conference_log(conference.id), record, gate.wait(), now)
        return effects + gate.close(now)

    def _move(self, request: Requested, now: float) -> list[Any]:
        signed = request.message.relocation
        try:
            signer = self._trust.open_statement(signed, RELOCATION_LABEL, now, peers=True)
            relocation = wire.Relocation.FromString(signed.statement)
        except (Rejected, DecodeError) as error:
            raise Refused("relocation", "signature", f"the relocation was not accepted: {error}") from None
        conference = self._kept.find_conference(relocation.conference_id)
        if abs(relocation.time_ms / 1000 - now) > CREATION_SKEW:
            raise Refused("relocation", "time", "the relocation was signed too long ago; is the clock right?")
        rule = self._rules.check(str(signer.id), "move", conference.resource())

        def moved(_: float) -> list[Any]:
            return [Answer(request.token, wire.MoveResponse(groups=conference.groups))]

        if list(relocation.addresses) != [group.address for group in conference.groups]:
            return moved(now)  # it has been done: the answer tells where the groups are
        if conference.moving_to:
            raise Refused("busy", "one-move-at-a-time", "the conference is being moved; ask again in a second")
        addresses = new_addresses(
            conference.groups,
            self._settings.pools,
            self._kept.addresses(),
            request.message.addresses_in_use[:ADDRESSES_AVOIDED],
        )
        decided = Decided(str(signer.id), "move", conference.id.hex(), allowed=True, rule=rule)
        return [decided, *self._kept.move(conference, addresses, moved, now)]

    def _repair(self, request: Requested, now: float) -> list[Any]:
        group = self._kept.find_group(request.message.group_id)
        missed = group.updates_since(request.message.have_number)
        member = any(name in group.members for name in _member_names(request))
        if missed is None or not member:
            return [Answer(request.token, wire.RepairResponse(register_again=True))]
        return [Answer(request.token, wire.RepairResponse(updates=missed))]

    # ---- certificates, countersignatures

    def _certificate(self, request: Requested, now: float) -> list[Any]:
        chain: tuple[bytes, ...] = ()
        if request.message.conference_id:
            conference = self._kept.find_conference(request.message.conference_id)
            chain = tuple(conference.signed.certificate_chain)
        response = wire.CertificateResponse(authorizer_chain=self._credentials.chain, coordinator_chain=chain)
        return [Answer(request.token, response)]

    def _countersign(self, request: Requested, now: float) -> list[Any]:
        conference = self._kept.find_conference(request.message.conference_id)
        if len(request.message.head) != 32:
            raise Refused("countersignature", "hash", "a record's head is a SHA-256: 32 bytes")
        statement = wire.Countersignature(
            conference_id=conference.id,
            head=request.message.head,
            time_ms=round(now * 1000),
            host=str(request.caller.id),
        )
        signed = self._credentials.sign_statement(COUNTERSIGNATURE_LABEL, statement.SerializeToString())
        answer = Answer(request.token, wire.CountersignResponse(countersignature=signed))
        record = ConferenceRecord(countersigned=[statement])
        return self._kept.commit(conference_log(conference.id), record, lambda _: [answer], now)


def _member_names(request: Requested) -> tuple[str, str]:
    """Under which the calling host may be a member: for itself, and as a relaying agent in the backbone."""
    host = str(request.caller.id)
    return host, host + AGENT


def _member_name(request: Requested) -> str:
    host, agent = _member_names(request)
    return agent if request.message.relay else host


def _created(conference: Conference) -> wire.CreateResponse:
    return wire.CreateResponse(conference_id=conference.id, groups=conference.groups)
