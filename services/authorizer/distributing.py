"""Members that serve joins, at their Authorizer: rights renewed, and what they report held against the rules. Sans-I/O.

A report has the newcomer's own request in it, signed by its host. It is looked at as the request itself would have
been, as of its own deadline, and then there is one of three outcomes:

    the newcomer is a member         -> roster; the key stays
    the newcomer is on its own       -> nothing: it has registered again since, or a rekey has left it out
    it isn't to be a member          -> a new key at once, for all but those that were welcomed and aren't known here
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcsa.distribution import seal_access_list, sign_right
from mcsa.endpoint import Answer, Refuse, Requested
from mcsa.envelope import Expected, parse_envelope, type_name
from mcsa.errors import Refused, Rejected
from mcsa.identity import Credentials, Identity
from mcsa.trust import Trust
from mcsa.updates import group_recipient
from mcsa.v1.authorizer_pb2 import AdoptRequest, AdoptResponse, RegisterRequest, RenewRequest, RenewResponse
from services.authorizer.admissions import REPORTS_FOR
from services.authorizer.batch import Adoption, Joiner
from services.authorizer.events import Decided
from services.authorizer.group import Group
from services.authorizer.groups import Groups

PASSING = ("busy", "moved")  # report again
BLAMELESS = ("late", "certificate", "revoked")  # in a request that a distributor took for good

Admit = Callable[[Requested, float], tuple[Group, Identity | None, str]]


@dataclass(frozen=True, slots=True)
class _Newcomer:
    """Its request, as if it had come here, and when it was in time."""

    request: Requested
    as_of: float
    sender_id: int
    distributor: str

    @property
    def host(self) -> str:
        return str(self.request.caller.id)

    def adoption(self, user: Identity | None = None) -> Adoption:
        asked = self.request
        name = None if user is None else str(user.id)
        joiner = Joiner(asked.token, asked.message, asked.request_hash, self.host, name, asked.traceparent)
        return Adoption(joiner, self.sender_id, self.distributor)


@dataclass(frozen=True, slots=True)
class Distributing:
    """See the module. `admit` is how a registration is decided."""

    credentials: Credentials
    trust: Trust
    kept: Groups
    admit: Admit

    # ---- rights

    def renew(self, group: Group, request: Requested, now: float) -> list[Any]:
        """The answer to a member's renewal: its right, where it has one, and the access list, where it has another."""
        message: RenewRequest = request.message
        host, response = str(request.caller.id), RenewResponse(time_ms=round(now * 1000))
        if message.used_up:
            group.restock(host, message.used_up, now)
        right = group.right_of(host, now)
        if right is not None:
            response.distribution_right.CopyFrom(sign_right(self.credentials, right))
            if message.access_list != right.access_list:
                response.sealed_access_list = self._seal(group, request)
        return [Answer(request.token, response), *self.kept.flush_if_due(group, now)]

    def _seal(self, group: Group, request: Requested) -> bytes:
        try:
            key = request.message.hpke_public_key
            return seal_access_list(group.policy.hpke, key, request.request_hash, group.access_list)
        except Rejected as rejected:
            raise Refused("key-material", rejected.cause, f"the renewal's key can't be used: {rejected}") from None

    # ---- reports

    def adopt(self, request: Requested, now: float) -> list[Any]:
        """The verb."""
        message: AdoptRequest = request.message
        group = self.kept.find_group(message.group_id)
        if str(request.caller.id) not in group.members or not group.blocks.possible:
            raise Refused("not-distributor", "membership", "only members of a group whose members serve joins report")
        if group.number != group.told.number:
            raise Refused("busy", "one-record-at-a-time", "the group is about to change; report again")
        if message.epoch < group.formed_epoch:
            return [Answer(request.token, AdoptResponse(adopted=False))]
        newcomer = None
        try:
            newcomer = self._open(group, request, now)
            return self._decide(group, newcomer, now)
        except Refused as refused:
            if refused.code in PASSING:
                raise
            return self._leave_out(group, request, newcomer, refused, now)

    def _open(self, group: Group, request: Requested, now: float) -> _Newcomer:
        """What the newcomer asked; `Refused("envelope")`."""
        try:
            received = parse_envelope(request.message.request)
            if now > received.deadline_at + REPORTS_FOR:
                raise Rejected("late", "reported too late")
            as_of = min(now, received.deadline_at)
            verified = received.verify(self.trust, _expected(group, request.caller), as_of)
            asked = verified.message
            if not isinstance(asked, RegisterRequest) or asked.group_id != group.id or not asked.sender:
                raise Rejected("recipient", "no request of a sender for this group")
        except Rejected as rejected:
            sentence = f"the newcomer's request was not accepted: {rejected}"
            raise Refused("envelope", rejected.cause, sentence) from None
        whole = Requested("register", verified.sender, asked, request.token, verified.payload_hash, request.traceparent)
        return _Newcomer(whole, as_of, request.message.sender_id, str(request.caller.id))

    def _decide(self, group: Group, newcomer: _Newcomer, now: float) -> list[Any]:
        asked = newcomer.request
        if group.has_adopted(newcomer.adoption()):
            return [Answer(asked.token, AdoptResponse(adopted=True))]
        if asked.message.asked_ms <= group.asked_last(newcomer.host):
            return [Answer(asked.token, AdoptResponse(adopted=False))]
        _, user, rule = self.admit(asked, newcomer.as_of)
        group.adopt(newcomer.adoption(user), now)
        who = newcomer.host if user is None else f"{user.id} on {newcomer.host}"
        decided = Decided(who, f"join at {newcomer.distributor}", group.id.hex(), allowed=True, rule=rule)
        return [decided, *self.kept.flush_if_due(group, now)]

    def _leave_out(
        self, group: Group, request: Requested, newcomer: _Newcomer | None, refused: Refused, now: float
    ) -> list[Any]:
        """It was welcomed, so that it has the key: there has to be another one before this is answered."""
        distributor = str(request.caller.id)
        lie = refused.code == "sender-id" or (refused.code == "envelope" and refused.rule not in BLAMELESS)
        if newcomer is not None and refused.code not in ("sender-id", "key-material"):
            group.remove_host(newcomer.host, now, eject=True)
        group.leave_somebody_out(now, blaming=distributor if lie else None)
        group.batch.trace(request.traceparent)
        group.batch.then.append(lambda _: [Refuse(request.token, refused)])
        who = "somebody" if newcomer is None else newcomer.host
        decided = Decided(who, f"join at {distributor}", group.id.hex(), allowed=False, rule=refused.rule)
        return [decided, *self.kept.flush_if_due(group, now)]


def _expected(group: Group, reporter: Identity) -> Expected:
    """A newcomer asks whoever serves the group; where another domain's Authorizer does, one of its hosts asks that."""
    types = {type_name(RegisterRequest): RegisterRequest}
    if reporter.id.kind != "authorizer":
        return Expected([group_recipient(group.id)], types, ["host"])
    return Expected([str(reporter.id)], types, (), peers={reporter.id.domain: ("host",)})
