"""Hosts that send to a group and are no members (paper, section 2.3.1), at their Authorizer: who may, with which key.

    Requested(register-sender) -> statement, rules, batch ... flush, its record stored -> Answer, update to all
    Requested(renew-sender)    -> lease; where there is a newer epoch, the key of the host's own packets in it

What leaves here is made for one SPI and derived (`mcsa.esp.derive`): the group key isn't found from it, nor another
sender's. That a new epoch has begun such a host hears from the Authorizer's beacons, which are signed and not sealed;
then it asks. Sans-I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcsa.endpoint import Answer, Refuse, Requested
from mcsa.errors import Refused, Rejected
from mcsa.identity import Identity
from mcsa.registration import seal_sending, verify_user_statement
from mcsa.sealing import check_public_key
from mcsa.trust import Trust
from mcsa.v1.authorizer_pb2 import RegisterSenderRequest, RenewSenderRequest, RenewSenderResponse
from services.authorizer.addresses import check_source
from services.authorizer.batch import SendOnlyJoiner
from services.authorizer.events import Decided
from services.authorizer.group import Group
from services.authorizer.groups import Groups
from services.authorizer.rules import Rules

ACTION = "sendOnly"  # to the rules

Believe = Callable[[Group, bytes, float], list[Any]]


@dataclass(frozen=True, slots=True)
class SendOnly:
    """See the module. `believe`: what comes of a beacon that somebody shows."""

    trust: Trust
    rules: Rules
    kept: Groups
    believe: Believe

    def register(self, request: Requested, now: float) -> list[Any]:
        """A host asks to send; `Refused` where it may not."""
        group, user, rule = self.admit(request, now)
        message: RegisterSenderRequest = request.message
        host = str(request.caller.id)
        group, effects = self.kept.place_send_only(group.id, host, now)
        effects += self.believe(group, message.last_beacon, now)
        if not self.kept.has(group):  # what the host shows made us give it up
            return [*effects, Refuse(request.token, Refused("moved", "evidence", "the group begins anew; ask again"))]
        name = None if user is None else str(user.id)
        joiner = SendOnlyJoiner(request.token, message, request.request_hash, host, name, request.traceparent)
        try:
            group.join_send_only(joiner, now)
        except Refused as refused:  # what was decided on the way has to be stored all the same
            return [*effects, Refuse(request.token, refused)]
        who = host if name is None else f"{name} on {host}"
        effects.append(Decided(who, ACTION, group.id.hex(), allowed=True, rule=rule))
        return effects + self.kept.flush_if_due(group, now)

    def renew(self, request: Requested, now: float) -> list[Any]:
        """It is still there, and may need a key."""
        message: RenewSenderRequest = request.message
        group, host = self.kept.find_group(message.group_id), str(request.caller.id)
        if not group.renew_send_only(host, message.sender_id, now):
            return [Answer(request.token, RenewSenderResponse(register_again=True))]
        response = RenewSenderResponse(time_ms=round(now * 1000))
        association = group.sending_key(host, now)
        if association is not None and association.epoch > message.have_epoch:
            key = message.hpke_public_key
            _check_key(group, group.policy.hpke, key)
            sealed = seal_sending(group.policy.hpke, key, request.request_hash, association)
            response.sealed_association = sealed
        return [Answer(request.token, response)]

    def admit(self, request: Requested, now: float) -> tuple[Group, Identity | None, str]:
        """The group and the user, where the rules allow host and user; `Refused` otherwise."""
        message: RegisterSenderRequest = request.message
        group, host = self.kept.find_group(message.group_id), request.caller
        if host.id.kind != "host":
            raise Refused("not-allowed", "hosts-send", "only a host can send without being a member")
        _check_key(group, message.hpke_suite, message.hpke_public_key)
        check_source(message.address)
        _check_heard(group, message.address)
        conference = self.kept.find_conference(group.conference_id)
        user = None
        if message.HasField("user_statement"):
            user = verify_user_statement(message, host, conference.authorizer, self.trust, now)
        principals = [str(who.id) for who in (host, user) if who is not None]
        rules = self.rules.check_all(principals, ACTION, conference.resource(), with_user=user is not None)
        return group, user, rules[-1]

    def reauthorise(self, request: Requested, now: float) -> None:
        """What was answered may be answered again; `Refused` otherwise."""
        if request.verb == "register-sender":
            self.admit(request, now)
            return
        message: RenewSenderRequest = request.message
        sender = self.kept.find_group(message.group_id).send_only.get(str(request.caller.id))
        if sender is None or sender.sender_id != message.sender_id:
            raise Refused("not-allowed", "send-only", "this host sends to the group no longer; register again")


def _check_heard(group: Group, address: str) -> None:
    """In a source-specific group routers carry what its sources send, and nobody else's: nobody would hear."""
    sources = group.description.sources
    if sources and address not in sources:
        sentence = f"the group is source-specific: it is sent to from {', '.join(sources)} only, not from {address}"
        raise Refused("address", "sources", sentence)


def _check_key(group: Group, suite: str, public_key: bytes) -> None:
    if suite != group.policy.hpke:
        sentence = f"this group's policy asks for HPKE suite '{group.policy.hpke}', not '{suite}'"
        raise Refused("policy", "group-policy.hpke", sentence)
    try:
        check_public_key(suite, public_key)
    except Rejected as rejected:
        raise Refused("key-material", rejected.cause, f"the request's key can't be used: {rejected}") from None
