"""The groups of peers' conferences that are keyed here for hosts of this domain, and what is asked of their homes.

    Requested of our hosts -> `AskHome` -> `FromHome(Answered | Failed)` -> Answer | Refuse
    the homes' updates and beacons, on their buses -> `HomeTold` -> `Branch.follow` -> our own updates

Evictions, countersignatures and certificates of such conferences are the home's: they are passed on. Sans-I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message

from mcsa import subjects
from mcsa.distribution import open_right
from mcsa.endpoint import Answer, Answered, Count, Failed, Refuse, Request, Requested
from mcsa.envelope import payload_hash
from mcsa.errors import Refused, Rejected
from mcsa.gkm import Joining, scheme_named
from mcsa.identity import Credentials
from mcsa.keys import Random
from mcsa.membership import Changed, Followed, Membership, RenewalWanted, RepairWanted
from mcsa.registration import open_association, verify_user_statement
from mcsa.sealing import SealingKey
from mcsa.source_authentication import SourceKey, mode_named
from mcsa.trust import Trust
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.types_pb2 import SignedStatement
from services.authorizer.branch import Branch
from services.authorizer.events import AskHome, Decided, FromHome, HomeTold

SCHEME = "kd"  # the protocol in which an Authorizer can be a member that serves joins


@dataclass(slots=True)
class _Beginning:
    """A registration of ours with a home, and our hosts' that wait for it."""

    home: str
    key: SealingKey
    joining: Joining
    request_hash: bytes
    waiting: list[Requested]


@dataclass(frozen=True, slots=True)
class _Registering:
    group_id: bytes


@dataclass(frozen=True, slots=True)
class _Reporting:
    group_id: bytes
    sender_id: int


@dataclass(frozen=True, slots=True)
class _Repairing:
    group_id: bytes


@dataclass(frozen=True, slots=True)
class _Renewing:
    group_id: bytes


@dataclass(frozen=True, slots=True)
class _PassedOn:
    """The answer goes to our host as it comes."""

    token: object


@dataclass(frozen=True, slots=True)
class _Told:
    """Nobody waits for this one."""


class Branches:
    """See the module. `homes` are the Authorizers of peers that this one keys groups for."""

    def __init__(
        self, credentials: Credentials, trust: Trust, random: Random, address: str, homes: Sequence[str]
    ) -> None:
        self._credentials = credentials
        self._trust = trust
        self._random = random
        self._address = address
        self._homes = frozenset(homes)
        self.groups: dict[bytes, Branch] = {}
        self._beginning: dict[bytes, _Beginning] = {}
        self._verbs: dict[str, Callable[[Requested, float], list[Any] | None]] = {
            "register": self._register,
            "repair": self._repair,
            "renew": self._renew,
            "leave": self._leave,
            "evict": self._evict,
            "certificate": self._certificate,
            "countersign": self._countersign,
        }

    def requested(self, request: Requested, now: float) -> list[Any] | None:
        """What comes of a request of a host of this domain; None where it isn't about a peer's conference."""
        verb = self._verbs.get(request.verb) if self._homes else None
        return None if verb is None else verb(request, now)

    # ---- our hosts

    def _register(self, request: Requested, now: float) -> list[Any] | None:
        message: wire.RegisterRequest = request.message
        branch = self.groups.get(message.group_id)
        home = _home_in(message) if branch is None else branch.membership.home
        if home not in self._homes:
            return None
        user = verify_user_statement(message, request.caller, home, self._trust, now)
        if not message.sender:
            sentence = "a host takes part in a peer domain's conference for one user; use another host"
            raise Refused("not-allowed", "one-user-a-host", sentence)
        if branch is not None:
            return self._report(branch, request, str(user.id))
        beginning = self._beginning.get(message.group_id)
        if beginning is not None:
            beginning.waiting.append(request)
            return []
        return self._begin(home, request, now)

    def _begin(self, home: str, request: Requested, now: float) -> list[Any]:
        """This Authorizer registers with the home, as a host would."""
        asked: wire.RegisterRequest = request.message
        key, joining = SealingKey.generate(asked.hpke_suite), scheme_named(SCHEME).begin(self._random)
        own = wire.RegisterRequest(
            group_id=asked.group_id,
            hpke_public_key=key.public,
            hpke_suite=key.suite,
            sender=True,
            address=self._address,
            gkm_contribution=joining.contribution,
            asked_ms=round(now * 1000),
            source_key=SourceKey().public,  # says nothing by it, but is asked for one
        )
        self._beginning[asked.group_id] = _Beginning(home, key, joining, payload_hash(own), [request])
        return [_ask(home, "register", own, _Registering(asked.group_id), request.traceparent)]

    def _report(self, branch: Branch, request: Requested, user: str) -> list[Any]:
        newcomer = branch.announce(request, user)
        report = wire.AdoptRequest(
            group_id=branch.id, request=request.raw, sender_id=newcomer.sender_id, epoch=branch.membership.epoch
        )
        token = _Reporting(branch.id, newcomer.sender_id)
        return [_ask(branch.membership.home, "adopt", report, token, request.traceparent)]

    def _repair(self, request: Requested, now: float) -> list[Any] | None:
        branch = self.groups.get(request.message.group_id)
        if branch is None:
            return None
        missed = branch.updates_since(request.message.have_number)
        if missed is None or str(request.caller.id) not in branch.locals:
            return [Answer(request.token, wire.RepairResponse(register_again=True))]
        return [Answer(request.token, wire.RepairResponse(updates=missed))]

    def _renew(self, request: Requested, now: float) -> list[Any] | None:
        branch = self.groups.get(request.message.group_id)
        if branch is None:
            return None
        known = branch.renew(str(request.caller.id), now)
        return [Answer(request.token, wire.RenewResponse(register_again=not known))]

    def _leave(self, request: Requested, now: float) -> list[Any] | None:
        branch = self.groups.get(request.message.group_id)
        if branch is None:
            return None
        leave = wire.LeaveRequest(group_id=branch.id, user=request.message.user, host=str(request.caller.id))
        return [_ask(branch.membership.home, "leave", leave, _PassedOn(request.token), request.traceparent)]

    def _evict(self, request: Requested, now: float) -> list[Any] | None:
        try:
            eviction = wire.Eviction.FromString(request.message.eviction.statement)
        except DecodeError:
            return None
        return self._pass_on(request, self._home_of(eviction.conference_id))

    def _certificate(self, request: Requested, now: float) -> list[Any] | None:
        return self._pass_on(request, request.message.home)

    def _countersign(self, request: Requested, now: float) -> list[Any] | None:
        return self._pass_on(request, self._home_of(request.message.conference_id))

    def _pass_on(self, request: Requested, home: str) -> list[Any] | None:
        if home not in self._homes:
            return None
        return [_ask(home, request.verb, request.message, _PassedOn(request.token), request.traceparent)]

    def _home_of(self, conference_id: bytes) -> str:
        memberships = (branch.membership for branch in self.groups.values())
        return next((each.home for each in memberships if each.conference_id == conference_id), "")

    # ---- the homes

    def from_home(self, event: FromHome, now: float) -> list[Any]:
        """An answer, or that there is none."""
        answer = event.answer
        token, refused = answer.token, answer.refusal if isinstance(answer, Failed) else None
        message: Any = answer.message if isinstance(answer, Answered) else None
        match token:
            case _PassedOn():
                return [Answer(token.token, message) if refused is None else Refuse(token.token, refused)]
            case _Registering():
                return self._registered(token.group_id, message, refused, now)
            case _Reporting():
                return self._reported(token, message, refused)
            case _Repairing():
                return self._repaired(token.group_id, message, refused, now)
            case _Renewing():
                return self._renewed(token.group_id, message, refused, now)
        return [] if refused is None else [Count(f"home.{refused.code}")]

    def told(self, event: HomeTold, now: float) -> list[Any]:
        """An update or a beacon, by a home's bus."""
        branch = self.groups.get(event.group_id)
        if branch is None or branch.membership.home != event.home:
            return []
        try:
            return self._follow(branch, branch.membership.message_arrived(event.payload, now), now)
        except Rejected as rejected:
            return [Count(f"rejected.home.{rejected.cause}")]

    def _registered(self, group_id: bytes, message: Any, refused: Refused | None, now: float) -> list[Any]:
        beginning = self._beginning.pop(group_id)
        try:
            if refused is not None:
                raise refused
            self.groups[group_id] = self._make_branch(beginning, message.sealed_gsa, now)
        except Rejected as rejected:
            sentence = f"what {beginning.home} answered could not be used: {rejected}"
            refused = Refused("association", rejected.cause, sentence)
        except Refused as known:
            refused = known
        if refused is not None:
            return [Refuse(request.token, refused) for request in beginning.waiting]
        effects: list[Any] = []
        for request in beginning.waiting:
            try:
                effects += self._register(request, now) or []
            except Refused as own:
                effects.append(Refuse(request.token, own))
        return effects

    def _make_branch(self, beginning: _Beginning, sealed: bytes, now: float) -> Branch:
        gsa = open_association(beginning.key, beginning.request_hash, sealed)
        if mode_named(gsa.group.policy.source_authentication).needs_clock:
            sentence = "it goes by its own Authorizer's clock: convene with source authentication 'signature' or 'tree'"
            raise Refused("policy", "group-policy.source_authentication", sentence)
        own = str(self._credentials.id)
        membership = Membership(
            gsa.group, beginning.home, beginning.home, gsa.conference_id, own, self._trust, self._random, passes_on=True
        )
        membership.install(beginning.joining, gsa, now)
        right = self._open_right(gsa.distribution_right, beginning.home, gsa.group.group_id, now)
        return Branch(membership, right, self._credentials, self._random, now)

    def _open_right(self, signed: SignedStatement, home: str, group_id: bytes, now: float) -> wire.DistributionRight:
        return open_right(signed, home, group_id, str(self._credentials.id), self._trust, now, peers=True)

    def _reported(self, token: _Reporting, message: Any, refused: Refused | None) -> list[Any]:
        branch = self.groups.get(token.group_id)
        if branch is None:
            return []
        if refused is None and message.adopted:
            return self._restock_if_wanted(branch)  # the host is answered with the update that has it
        refusal = refused or Refused("busy", "home", "the home had the group's key replaced meanwhile; ask again")
        decided = Decided("host", "join", token.group_id.hex(), allowed=False, rule=refusal.rule)
        return [decided, *branch.dismiss(token.sender_id, refusal), *self._restock_if_wanted(branch)]

    def _restock_if_wanted(self, branch: Branch) -> list[Any]:
        return self._renew_at_home(branch, used_up=True) if branch.is_used_up else []

    def _repaired(self, group_id: bytes, message: Any, refused: Refused | None, now: float) -> list[Any]:
        branch = self.groups.get(group_id)
        if branch is None:
            return []
        if refused is not None:
            return self._end(branch) if refused.code == "unknown-group" else []
        effects = branch.membership.repaired(list(message.updates), message.register_again, now)
        return self._follow(branch, effects, now)

    def _renewed(self, group_id: bytes, message: Any, refused: Refused | None, now: float) -> list[Any]:
        branch = self.groups.get(group_id)
        if branch is None:
            return []
        if refused is not None:
            return self._end(branch) if refused.code == "unknown-group" else []
        if message.register_again or not message.HasField("distribution_right"):
            return self._end(branch)
        try:
            branch.restock(self._open_right(message.distribution_right, branch.membership.home, group_id, now))
        except Rejected as rejected:
            return [Count(f"rejected.home.{rejected.cause}")]
        return []

    def _follow(self, branch: Branch, effects: Sequence[Any], now: float) -> list[Any]:
        """Turns our membership's wishes into requests, and what it followed into updates of our own."""
        out: list[Any] = []
        home, group_id = branch.membership.home, branch.id
        for effect in effects:
            match effect:
                case Followed():
                    try:
                        out += branch.follow(effect, now)
                    except Rejected as rejected:
                        return [*out, Count(f"rejected.home.{rejected.cause}"), *self._end(branch)]
                case RepairWanted():
                    repair = wire.RepairRequest(group_id=group_id, have_number=effect.have_number)
                    out.append(_ask(home, "repair", repair, _Repairing(group_id), within=3.0))
                case RenewalWanted():
                    out += self._renew_at_home(branch)
                case Changed() if effect.what in ("statement-needed", "ejected"):
                    return [*out, *self._end(branch)]
        return out

    def _renew_at_home(self, branch: Branch, *, used_up: bool = False) -> list[Any]:
        key = SealingKey.generate(branch.membership.group.policy.hpke)  # for an access list, which isn't looked at
        renewal = wire.RenewRequest(
            group_id=branch.id,
            hpke_public_key=key.public,
            access_list=branch.right.access_list,
            used_up=branch.right.first_sender_id if used_up else 0,
        )
        return [_ask(branch.membership.home, "renew", renewal, _Renewing(branch.id))]

    def _end(self, branch: Branch) -> list[Any]:
        """This Authorizer isn't a member any more; whoever asks next makes it register again."""
        self.groups.pop(branch.id, None)
        return [*branch.end(), Count("branches.ended")]

    # ---- time

    def woken(self, now: float) -> list[Any]:
        """What is due."""
        effects: list[Any] = []
        for branch in list(self.groups.values()):
            effects += self._follow(branch, branch.membership.woken(now), now)
            if now >= branch.beacon_at:
                effects += branch.beacon(now)
                for host in branch.lapsed(now):
                    leave = wire.LeaveRequest(group_id=branch.id, host=host)
                    effects.append(_ask(branch.membership.home, "leave", leave, _Told()))
                effects += self._restock_if_wanted(branch)
        return effects

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        times = [branch.beacon_at for branch in self.groups.values()]
        times += [at for branch in self.groups.values() if (at := branch.membership.wake_at()) is not None]
        return min(times, default=None)


def _ask(
    home: str, verb: str, message: Message, token: object, traceparent: str | None = None, within: float = 10.0
) -> AskHome:
    return AskHome(home, Request(subjects.AUTHORIZER, verb, message, home, token, within, traceparent))


def _home_in(message: wire.RegisterRequest) -> str:
    """Which Authorizer the user's statement names; it is verified afterwards."""
    try:
        return wire.UserStatement.FromString(message.user_statement.statement).authorizer
    except DecodeError:
        return ""
