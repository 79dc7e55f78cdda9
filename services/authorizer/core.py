"""The Authorizer's decisions (paper, section 3.1): who is admitted, which keys a group has. Sans-I/O.

    Requested(create)      -> groups with keys                          -> Answer
    Requested(register)    -> statement, rules, batch ... flush         -> Answer with the sealed GSA, update to all
    Requested(evict|leave) -> rules, batch or at once ... flush         -> Answer, update to all
    time                   -> flushes, beacons, replaced keys, old epochs dropped

A conference is written down before its creation is answered. Keys are not: until the durable log exists, an Authorizer
that restarts begins every group with a new random key and epoch, and members register again by themselves.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from mcsa.conference_id import CONFERENCE_LABEL, conference_id_of, group_id_of
from mcsa.endpoint import Answer, Answered, Count, Failed, Published, Refuse, Requested, Woken
from mcsa.envelope import sign_envelope
from mcsa.errors import Refused, Rejected
from mcsa.identity import Credentials, Identity
from mcsa.keys import Random
from mcsa.policy import complete_policy
from mcsa.registration import verify_user_statement
from mcsa.statements import COUNTERSIGNATURE_LABEL, EVICTION_LABEL
from mcsa.trust import Trust
from mcsa.updates import UPDATE_LIFETIME, group_recipient
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.types_pb2 import AccessControl, ConferenceDescription, GroupDescription, SignedStatement
from services.authorizer.events import Decided, DropSender, InstallSender, Remember, SendToGroup, Tell
from services.authorizer.group import Flushed, Group, Joiner
from services.authorizer.rules import Resource, Rules

MAX_GROUPS = 16  # in one conference
MAX_NAMES = 10_000  # in one access control list
CREATION_SKEW = 600.0  # seconds by which an eviction's own time may differ: it is for the record


@dataclass(slots=True)
class Conference:
    """A conference as far as its Authorizer is concerned."""

    id: bytes
    signed: SignedStatement
    coordinator: str
    policy_class: int
    access: AccessControl
    groups: list[Group]
    _resource: Resource | None = None

    def resource(self) -> Resource:
        """As the rules see it."""
        if self._resource is None:
            self._resource = Resource(self.id.hex(), self.coordinator, self.policy_class, self.access)
        return self._resource

    def ban(self, subject: str) -> None:
        """Puts a host or a user on the list of those that may not join."""
        access = self.access
        banned = access.unacceptable_hosts if "/host/" in subject else access.unacceptable_users
        if subject not in banned:
            banned.append(subject)
            self._resource = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator decides."""

    pool: str = "239.255.64.0/18"  # administratively scoped, local (RFC 2365, section 6.1)
    address: str = "127.0.0.1"  # from which the Authorizer's own packets come


@dataclass(slots=True)
class _Retiring:
    group_id: bytes
    epoch: int
    at: float


@dataclass(slots=True)
class _Repeat:
    group_id: bytes
    epoch: int
    payload: bytes
    at: float


EMPTY_FOR = 3_600.0  # seconds without a member after which a conference is forgotten
RECALL_FOR = 120.0  # seconds that a restarted Authorizer tells its new epochs to members that it doesn't know of
REPEATS_AFTER = (0.05, 0.15)  # seconds after an update at which it is repeated on the multicast


class AuthorizerCore:
    """See the module."""

    def __init__(
        self, credentials: Credentials, trust: Trust, random: Random, settings: Settings, rules: Rules | None = None
    ) -> None:
        self._credentials = credentials
        self._trust = trust
        self._random = random
        self._settings = settings
        self._rules = rules or Rules()
        self.conferences: dict[bytes, Conference] = {}
        self.groups: dict[bytes, Group] = {}
        self._beacon_at: dict[bytes, float] = {}
        self._recalling_until = 0.0
        self._empty_since: dict[bytes, float] = {}
        self._retiring: list[_Retiring] = []
        self._repeats: list[_Repeat] = []
        self._verbs: dict[str, Callable[[Requested, float], list[Any]]] = {
            "create": self._create,
            "register": self._register,
            "repair": self._repair,
            "leave": self._leave,
            "evict": self._evict,
            "certificate": self._certificate,
            "countersign": self._countersign,
        }

    # ---- the core's interface

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `mcsa.endpoint.Core`."""
        match event:
            case Requested():
                try:
                    return self._verbs[event.verb](event, now)
                except Refused as refused:
                    return [Refuse(event.token, refused)]
            case Woken():
                return self._woken(now)
            case Answered() | Failed() | Published():
                return []  # the Authorizer asks nobody
        raise TypeError(event)

    def reauthorise(self, request: Requested, now: float) -> None:
        """See `mcsa.endpoint.Core`."""
        if request.verb == "register":
            self._admit(request, now)

    def wake_at(self) -> float | None:
        """See `mcsa.endpoint.Core`."""
        times = [group.flush_at for group in self.groups.values() if group.flush_at is not None]
        times += [group.rekey_at for group in self.groups.values()]
        times += self._beacon_at.values()
        times += [retiring.at for retiring in self._retiring]
        times += [repeat.at for repeat in self._repeats]
        return min(times, default=None)

    def restore(self, states: list[bytes], now: float) -> list[Any]:
        """Conferences written down by an earlier process, with new keys and epochs."""
        self._recalling_until = now + RECALL_FOR
        effects: list[Any] = []
        for state in states:
            request = wire.CreateRequest.FromString(state)
            coordinator, description = self._open_description(request.description, now, fresh=False)
            effects += self._begin(request, coordinator, description, now)
        return effects

    # ---- create

    def _create(self, request: Requested, now: float) -> list[Any]:
        message = request.message
        coordinator, description = self._open_description(message.description, now, fresh=True)
        conference_id = conference_id_of(coordinator, message.description.statement)
        known = self.conferences.get(conference_id)
        if known is not None:
            return [Answer(request.token, self._created(known))]
        if len(message.access.acceptable_users) > MAX_NAMES or len(message.access.unacceptable_users) > MAX_NAMES:
            raise Refused("too-many", "access-control", f"an access control list has at most {MAX_NAMES} names")
        resource = Resource(conference_id.hex(), coordinator, description.policy_class, message.access)
        rule = self._rules.check(coordinator, "create", resource)
        effects = self._begin(message, coordinator, description, now)
        conference = self.conferences[conference_id]
        return [
            Decided(coordinator, "create", conference_id.hex(), allowed=True, rule=rule),
            Remember(conference_id, self._state(conference)),
            *effects,
            Answer(request.token, self._created(conference)),
        ]

    def _open_description(
        self, signed: SignedStatement, now: float, *, fresh: bool
    ) -> tuple[str, ConferenceDescription]:
        try:
            coordinator = self._trust.open_statement(signed, CONFERENCE_LABEL, now)
            description = ConferenceDescription.FromString(signed.statement)
        except Rejected as rejected:
            raise Refused("description", rejected.cause, f"the Coordinator's description: {rejected}") from None
        except DecodeError:
            raise Refused("description", "malformed", "the Coordinator's description is malformed") from None
        if description.coordinator != str(coordinator.id):
            raise Refused("description", "coordinator", "the description names another Coordinator than signed it")
        if description.authorizer != str(self._credentials.id):
            raise Refused("description", "authorizer", f"the description is for {description.authorizer}")
        if fresh and description.end_s and description.end_s < now:
            raise Refused("description", "end", "the conference ends in the past; is the clock right?")
        if not 1 <= len(description.groups) <= MAX_GROUPS:
            raise Refused("description", "groups", f"a session has 1 to {MAX_GROUPS} groups")
        return str(coordinator.id), description

    def _begin(
        self, request: wire.CreateRequest, coordinator: str, description: ConferenceDescription, now: float
    ) -> list[Any]:
        conference_id = conference_id_of(coordinator, request.description.statement)
        groups: list[Group] = []
        taken = {group.description.address for group in self.groups.values()}
        for index, asked in enumerate(description.groups):
            complete = GroupDescription()
            complete.CopyFrom(asked)
            complete.group_id = group_id_of(conference_id, index)
            complete.policy.CopyFrom(complete_policy(asked.policy))
            complete.address = self._give_address(asked.address, complete.group_id, taken)
            complete.ttl = asked.ttl or 8
            taken.add(complete.address)
            groups.append(
                Group(
                    complete,
                    conference_id,
                    request.description,
                    self._credentials,
                    self._settings.address,
                    self._random,
                    now,
                )
            )
        conference = Conference(
            conference_id, request.description, coordinator, description.policy_class, request.access, groups
        )
        self.conferences[conference_id] = conference
        effects: list[Any] = []
        for group in groups:
            self.groups[group.id] = group
            self._beacon_at[group.id] = now
            effects.append(InstallSender(group.description, group.epoch, group.key, group.own_sender_id))
        return effects

    def _give_address(self, asked: str, group_id: bytes, taken: set[str]) -> str:
        if asked:
            try:
                multicast = ipaddress.ip_address(asked).is_multicast
            except ValueError:
                multicast = False
            if not multicast:
                raise Refused("address", "multicast", f"'{asked}' is no multicast address")
            if asked in taken:
                raise Refused("address", "in-use", f"{asked} is another group's; one group has one address of its own")
            return asked
        pool = ipaddress.ip_network(self._settings.pool)
        start = int.from_bytes(group_id[:8], "big")
        for step in range(pool.num_addresses):
            address = str(pool[(start + step) % pool.num_addresses])
            if address not in taken:
                return address
        raise Refused("address", "pool", f"no address is left in {pool}; give the Authorizer a larger pool")

    def _created(self, conference: Conference) -> wire.CreateResponse:
        return wire.CreateResponse(
            conference_id=conference.id, groups=[group.description for group in conference.groups]
        )

    def _state(self, conference: Conference) -> bytes:
        state = wire.CreateRequest(description=conference.signed, access=conference.access)
        return state.SerializeToString()

    # ---- register

    def _register(self, request: Requested, now: float) -> list[Any]:
        group, user, rule = self._admit(request, now)
        host = str(request.caller.id)
        joiner = Joiner(
            request.token,
            request.message,
            request.request_hash,
            host,
            None if user is None else str(user.id),
            request.traceparent,
        )
        superseded = group.join(joiner, now)
        who = host if user is None else f"{user.id} on {host}"
        effects: list[Any] = [Decided(who, "join", group.id.hex(), allowed=True, rule=rule)]
        if superseded is not None:
            sentence = "the same host has registered again meanwhile"
            effects.append(Refuse(superseded.token, Refused("superseded", "one-registration", sentence)))
        if group.flush_at is not None and group.flush_at <= now:
            effects += self._flush(group, now)
        return effects

    def _admit(self, request: Requested, now: float) -> tuple[Group, Identity | None, str]:
        """The group and the user, where the rules allow host and user; `Refused` otherwise."""
        message = request.message
        group = self._find_group(message.group_id)
        host = request.caller
        if message.hpke_suite != group.policy.hpke:
            sentence = f"this group's policy asks for HPKE suite '{group.policy.hpke}', not '{message.hpke_suite}'"
            raise Refused("policy", "group-policy.hpke", sentence)
        try:
            ipaddress.ip_address(message.address)
        except ValueError:
            raise Refused("address", "source-address", "the host's own address is malformed") from None
        resource = self.conferences[group.conference_id].resource()
        user = None
        if message.HasField("user_statement"):
            user = verify_user_statement(message, host, str(self._credentials.id), self._trust, now)
        principals = [str(who.id) for who in (host, user) if who is not None]
        rules = self._rules.check_all(principals, "join", resource, with_user=user is not None)
        return group, user, rules[-1]

    def _find_group(self, group_id: bytes) -> Group:
        group = self.groups.get(group_id)
        if group is None:
            sentence = "this Authorizer has no such group: it was never created here, or has ended"
            raise Refused("unknown-group", "group", sentence)
        return group

    # ---- leave, evict, repair

    def _leave(self, request: Requested, now: float) -> list[Any]:
        group = self._find_group(request.message.group_id)
        host = str(request.caller.id)
        if request.message.user:
            group.remove_user(request.message.user, now, host=host)
        else:
            group.remove_host(host, now)
        group.trace(request.traceparent)
        return [Answer(request.token, wire.LeaveResponse())]

    def _evict(self, request: Requested, now: float) -> list[Any]:
        signed = request.message.eviction
        try:
            signer = self._trust.open_statement(signed, EVICTION_LABEL, now)
            eviction = wire.Eviction.FromString(signed.statement)
        except (Rejected, DecodeError) as error:
            raise Refused("eviction", "signature", f"the eviction was not accepted: {error}") from None
        conference = self._find_conference(eviction.conference_id)
        if abs(eviction.time_ms / 1000 - now) > CREATION_SKEW:
            raise Refused("eviction", "time", "the eviction was signed too long ago; is the clock right?")
        rule = self._rules.check(str(signer.id), "evict", conference.resource())
        conference.ban(eviction.subject)
        effects: list[Any] = [
            Decided(str(signer.id), f"evict {eviction.subject}", conference.id.hex(), allowed=True, rule=rule),
            Remember(conference.id, self._state(conference)),
        ]
        for group in conference.groups:
            remove = group.remove_host if "/host/" in eviction.subject else group.remove_user
            group.trace(request.traceparent)
            if remove(eviction.subject, now, eject=True):
                effects += self._flush(group, now)
        epochs = [group.epoch for group in conference.groups]
        return [*effects, Answer(request.token, wire.EvictResponse(epochs=epochs))]

    def _find_conference(self, conference_id: bytes) -> Conference:
        conference = self.conferences.get(conference_id)
        if conference is None:
            raise Refused("unknown-conference", "conference", "this Authorizer has no such conference")
        return conference

    def _repair(self, request: Requested, now: float) -> list[Any]:
        group = self._find_group(request.message.group_id)
        missed = group.updates_since(request.message.have_number)
        member = str(request.caller.id) in group.members
        if missed is None or not member:
            return [Answer(request.token, wire.RepairResponse(register_again=True))]
        return [Answer(request.token, wire.RepairResponse(updates=missed))]

    # ---- certificates, countersignatures

    def _certificate(self, request: Requested, now: float) -> list[Any]:
        chain: tuple[bytes, ...] = ()
        if request.message.conference_id:
            conference = self._find_conference(request.message.conference_id)
            chain = tuple(conference.signed.certificate_chain)
        response = wire.CertificateResponse(authorizer_chain=self._credentials.chain, coordinator_chain=chain)
        return [Answer(request.token, response)]

    def _countersign(self, request: Requested, now: float) -> list[Any]:
        conference = self._find_conference(request.message.conference_id)
        if len(request.message.head) != 32:
            raise Refused("countersignature", "hash", "a record's head is a SHA-256: 32 bytes")
        statement = wire.Countersignature(
            conference_id=conference.id,
            head=request.message.head,
            time_ms=round(now * 1000),
            host=str(request.caller.id),
        )
        signed = self._credentials.sign_statement(COUNTERSIGNATURE_LABEL, statement.SerializeToString())
        return [Answer(request.token, wire.CountersignResponse(countersignature=signed))]

    # ---- time

    def _woken(self, now: float) -> list[Any]:
        effects: list[Any] = []
        for group in self.groups.values():
            if (group.flush_at is not None and now >= group.flush_at) or now >= group.rekey_at:
                effects += self._flush(group, now)
            if now >= self._beacon_at[group.id]:
                effects += self._beacon(group, now)
        for conference in list(self.conferences.values()):
            effects += self._forget(conference, now)
        for repeat in [repeat for repeat in self._repeats if now >= repeat.at]:
            self._repeats.remove(repeat)
            effects.append(SendToGroup(repeat.group_id, repeat.epoch, repeat.payload))
        for retiring in [retiring for retiring in self._retiring if now >= retiring.at]:
            self._retiring.remove(retiring)
            effects.append(DropSender(retiring.group_id, retiring.epoch))
        return effects

    def _flush(self, group: Group, now: float) -> list[Any]:
        flushed = group.flush(now)
        effects: list[Any] = []
        if flushed.update:
            effects.append(Tell(group.id, flushed.update, flushed.traceparent))
            effects.append(SendToGroup(group.id, flushed.under_epoch, flushed.update))
            self._repeats += [
                _Repeat(group.id, flushed.under_epoch, flushed.update, now + after) for after in REPEATS_AFTER
            ]
        if group.epoch != flushed.under_epoch:
            effects.append(InstallSender(group.description, group.epoch, group.key, group.own_sender_id))
            self._retiring.append(_Retiring(group.id, flushed.under_epoch, now + max(REPEATS_AFTER) + 0.1))
            self._beacon_at[group.id] = now
        effects += self._answers(flushed)
        effects.append(Count("flushes"))
        return effects

    def _answers(self, flushed: Flushed) -> list[Any]:
        effects: list[Any] = [
            Answer(joiner.token, wire.RegisterResponse(sealed_gsa=sealed)) for joiner, sealed in flushed.associations
        ]
        for joiner in flushed.dismissed:
            sentence = "the user left, or was thrown out, before the registration was done"
            effects.append(Refuse(joiner.token, Refused("dismissed", "membership", sentence)))
        return effects

    def _forget(self, conference: Conference, now: float) -> list[Any]:
        """A conference that nobody has been in for long, or whose end is past, has ended: its addresses are free."""
        if any(group.members for group in conference.groups):
            self._empty_since.pop(conference.id, None)
            return []
        since = self._empty_since.setdefault(conference.id, now)
        if now < since + EMPTY_FOR:
            return []
        effects: list[Any] = [Remember(conference.id, b"")]
        for group in conference.groups:
            del self.groups[group.id], self._beacon_at[group.id]
            self._retiring = [retiring for retiring in self._retiring if retiring.group_id != group.id]
            self._repeats = [repeat for repeat in self._repeats if repeat.group_id != group.id]
            effects.append(DropSender(group.id, group.epoch))
        del self.conferences[conference.id], self._empty_since[conference.id]
        return [*effects, Count("conferences.forgotten")]

    def _beacon(self, group: Group, now: float) -> list[Any]:
        self._beacon_at[group.id] = now + group.policy.beacon_ms / 1000
        if not group.members and now >= self._recalling_until:
            return []
        beacon = wire.Beacon(
            group_id=group.id, epoch=group.epoch, update_number=group.number, time_ms=round(now * 1000)
        )
        raw, _ = sign_envelope(
            self._credentials, beacon, group_recipient(group.id), self._random(16), now + UPDATE_LIFETIME
        )
        return [Tell(group.id, raw), SendToGroup(group.id, group.epoch, raw)]
