"""A core's place on the bus: bytes in, bytes out, and between them all that is alike for the four services.

    request bytes --> rate limit --> envelope --> ledger --> core.handle(Requested) --> Answer | Refuse --> signed
    core asks (Request) --> signed bytes, repeated until answered or too late --> Answered | Failed --> core

Nothing here does I/O: the shell carries `Outgoing...` to NATS, the simulator to its own network.

**Ledger.** A request that comes again (same sender, same request id) gets the answer of the first, after the core was
asked once more whether it still would (`reauthorise`); one still being worked on is not begun twice; one that reuses
an id for something else is rejected. A broker that replays what it carried can so do nothing twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.protobuf.message import Message

from mcsa import subjects
from mcsa.envelope import (
    CLOCK_SKEW,
    MAX_LIFETIME,
    REQUEST_ID_SIZE,
    Expected,
    Verified,
    parse_envelope,
    sign_envelope,
    type_name,
)
from mcsa.errors import Refused, Rejected
from mcsa.identity import Credentials, Identity
from mcsa.keys import Random
from mcsa.subjects import Method
from mcsa.telemetry import NullTelemetry, Span, Telemetry
from mcsa.trust import Trust
from mcsa.updates import group_recipient
from mcsa.v1.envelope_pb2 import Refusal

REPEAT_FOR = 1.0  # seconds before a request is sent again; NATS loses nothing while it is up, so rarely needed
CALLS_PER_SECOND = 200.0  # of one caller, before any signature of its is looked at
CALLS_AT_ONCE = 400.0
LEDGER_SIZE = 100_000  # requests remembered; past that new ones are refused, never old ones forgotten
FORGET_AFTER = CLOCK_SKEW  # seconds past a deadline after which the same bytes are "late" anyway


# ---- events, to a core


@dataclass(frozen=True, slots=True)
class Requested:
    """A verified request. `token` goes back in `Answer` or `Refuse`, now or later.

    `group_id` where it was asked of any distributor of a group; then `raw` is the envelope as received, which proves to
    others that `caller` asked this, and `verb` is "distribute".
    """

    verb: str
    caller: Identity
    message: Any
    token: object
    request_hash: bytes
    traceparent: str | None = None
    group_id: bytes = b""
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a `Request` with this token."""

    token: object
    message: Any
    sender: Identity


@dataclass(frozen=True, slots=True)
class Failed:
    """A `Request` was refused, or nobody answered in time (code "no-answer"), or nobody is there ("nobody-serves")."""

    token: object
    refusal: Refused


@dataclass(frozen=True, slots=True)
class Published:
    """A verified publication: what nobody asked for."""

    subject: str
    sender: Identity
    message: Any
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Woken:
    """The time that `wake_at` named has come."""


# ---- effects, from a core


@dataclass(frozen=True, slots=True)
class Request:
    """Ask a service; exactly one of `Answered` and `Failed` follows.

    `any_host`: the recipient is a group, and whichever host answers this very request first is heard; whether it is one
    that may is for the core to find out. `only_if_served`: where the broker says that nobody listens, that is the
    answer.
    """

    service: str
    verb: str
    message: Message
    recipient: str
    token: object
    within: float = 10.0
    traceparent: str | None = None
    any_host: bool = False
    only_if_served: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a `Requested`."""

    token: object
    message: Message


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse a `Requested`."""

    token: object
    refusal: Refused


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell whoever listens to a subject."""

    subject: str
    message: Message
    recipient: str
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """Count something that happened, under a name of a fixed set."""

    name: str
    by: int = 1


# ---- what the shell carries


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """Send, and bring whatever comes back to `answer_arrived`; to `nobody_serves`, where the broker says so."""

    subject: str
    raw: bytes
    traceparent: str | None
    request_id: bytes = b""


@dataclass(frozen=True, slots=True)
class OutgoingAnswer:
    """Send where `reply` says."""

    reply: object
    raw: bytes


@dataclass(frozen=True, slots=True)
class OutgoingPublication:
    """Send to whoever listens."""

    subject: str
    raw: bytes
    traceparent: str | None


class Core(Protocol):
    """A service's decisions. Sans-I/O."""

    def handle(self, event: Any, now: float) -> list[Any]:
        """Effects of an event at time `now` (seconds since 1970)."""

    def wake_at(self) -> float | None:
        """When it wants `Woken`; None for not at all."""

    def reauthorise(self, request: Requested, now: float) -> None:
        """Raises `Refused` where a request that was answered before would not be answered again."""


@dataclass(slots=True)
class _Pending:
    request: Request
    raw: bytes
    subject: str
    payload_hash: bytes
    deadline_at: float
    repeat_at: float
    method: Method
    span: Span


@dataclass(slots=True)
class _Entry:
    payload_hash: bytes
    request_id: bytes
    caller: Identity
    reply: object
    deadline_at: float
    span: Span
    answer: bytes | None = None


@dataclass(slots=True)
class _Allowance:
    calls: float
    at: float


@dataclass
class Endpoint:
    """Envelopes around one core. `service` is its name on the bus; `caller` its own token in the subjects it uses."""

    service: str
    caller: str
    credentials: Credentials
    trust: Trust
    core: Core
    random: Random
    callers: Sequence[str] = ("host",)
    peer_callers: Mapping[str, Sequence[str]] = field(default_factory=dict)  # kinds by domain: a subordinate's place
    answerers: Sequence[str] = ("authorizer", "directory", "host")
    peer_answerers: Mapping[str, Sequence[str]] = field(default_factory=dict)  # likewise, of whom is asked there
    publications: dict[str, type[Message]] = field(default_factory=dict)
    publishers: Sequence[str] = ("authorizer",)
    listens_to: list[str] = field(default_factory=list)
    distributes: bool = False  # it also answers what is asked of any distributor of a group
    telemetry: Telemetry = field(default_factory=NullTelemetry)
    counters: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._methods = subjects.SERVICES.get(self.service, {})
        self._ledger: dict[tuple[str, bytes], _Entry] = {}
        self._pending: dict[bytes, _Pending] = {}
        self._allowances: dict[str, _Allowance] = {}
        self._sweep_at = 0.0

    @property
    def verbs(self) -> list[str]:
        """The verbs that this service answers."""
        return list(self._methods)

    # ---- from the bus

    def request_arrived(
        self, subject: str, raw: bytes, reply: object, now: float, traceparent: str | None = None
    ) -> list[Any]:
        """A request; malformed and unauthentic ones vanish, counted by cause."""
        try:
            service, caller, verb = subjects.parse_subject(subject)
            group_id = bytes.fromhex(verb) if self.distributes and service == subjects.DISTRIBUTOR else b""
            method = subjects.DISTRIBUTE if group_id else self._methods[verb]
            self._check_rate(caller, now)
            types = {type_name(method.request): method.request}
            recipient = group_recipient(group_id) if group_id else str(self.credentials.id)
            expected = Expected([recipient], types, self.callers, peers={} if group_id else self.peer_callers)
            verified = parse_envelope(raw).verify(self.trust, expected, now)
            if verified.sender.id.token != caller:
                raise Rejected("subject", "of another caller")
            return self._begin(verified, method.verb, reply, now, traceparent, group_id, raw)
        except Rejected as rejected:
            self.counters[f"rejected.{rejected.cause}"] += 1
        except (ValueError, KeyError):
            self.counters["rejected.subject"] += 1
        return []

    def answer_arrived(self, raw: bytes, now: float) -> list[Any]:
        """Whatever came back to one of our requests."""
        try:
            received = parse_envelope(raw)
            pending = self._pending.get(received.request_id)
            if pending is None:
                raise Rejected("unasked")
            types = {
                type_name(pending.method.response): pending.method.response,
                type_name(Refusal): Refusal,
            }
            any_host = pending.request.any_host
            answerers = ("host",) if any_host else self.answerers
            peers = {} if any_host else self.peer_answerers
            expected = Expected([str(self.credentials.id)], types, answerers, pending.payload_hash, peers)
            verified = received.verify(self.trust, expected, now)
            if not any_host and str(verified.sender.id) != pending.request.recipient:
                raise Rejected("sender", "answered by another")
        except Rejected as rejected:
            self.counters[f"rejected.{rejected.cause}"] += 1
            return []
        del self._pending[verified.request_id]
        if isinstance(verified.message, Refusal):
            refusal = verified.message
            refused = Refused(refusal.code, refusal.rule, refusal.sentence)
            pending.span.end(refusal.code)
            return self.handle(Failed(pending.request.token, refused), now)
        pending.span.end()
        return self.handle(Answered(pending.request.token, verified.message, verified.sender), now)

    def nobody_serves(self, request_id: bytes, now: float) -> list[Any]:
        """The broker says that nobody listens. Services are waited for until the deadline: they restart. Where anybody
        of a group was asked, or whoever asked doesn't want to wait, that is the answer."""
        pending = self._pending.get(request_id)
        if pending is None or not (pending.request.any_host or pending.request.only_if_served):
            return []
        del self._pending[request_id]
        pending.span.end("nobody-serves")
        refusal = Refused("nobody-serves", "subject", f"nobody serves {pending.subject}")
        return self.handle(Failed(pending.request.token, refusal), now)

    def publication_arrived(self, subject: str, raw: bytes, now: float, traceparent: str | None = None) -> list[Any]:
        """Something that was said to several."""
        try:
            types = self.publications
            expected = Expected([str(self.credentials.id), *self.listens_to], types, self.publishers)
            verified = parse_envelope(raw).verify(self.trust, expected, now)
        except Rejected as rejected:
            self.counters[f"rejected.{rejected.cause}"] += 1
            return []
        return self.handle(Published(subject, verified.sender, verified.message, traceparent), now)

    # ---- time

    def wake_at(self) -> float | None:
        """When `tick` is wanted next."""
        times = [pending.repeat_at for pending in self._pending.values()]
        core_at = self.core.wake_at()
        if core_at is not None:
            times.append(core_at)
        return min(times, default=None)

    def tick(self, now: float) -> list[Any]:
        """Repeats, gives up, wakes the core."""
        out: list[Any] = []
        for request_id, pending in list(self._pending.items()):
            if now >= pending.deadline_at:
                del self._pending[request_id]
                pending.span.end("no-answer")
                sentence = (
                    f"{pending.request.recipient} did not answer {pending.request.service}.{pending.request.verb} "
                    f"within {pending.request.within:g} s; is it running, and the broker? (mcsa doctor)"
                )
                out += self.handle(Failed(pending.request.token, Refused("no-answer", "deadline", sentence)), now)
            elif now >= pending.repeat_at:
                pending.repeat_at = min(now + REPEAT_FOR, pending.deadline_at)
                out.append(OutgoingRequest(pending.subject, pending.raw, pending.span.traceparent, request_id))
        core_at = self.core.wake_at()
        if core_at is not None and now >= core_at:
            out += self.handle(Woken(), now)
        self._sweep(now)
        return out

    def handle(self, event: Any, now: float) -> list[Any]:
        """An event that did not come by the bus, or one of the above; effects of the service's own pass through."""
        return self.carry_out(self.core.handle(event, now), now)

    def carry_out(self, effects: Sequence[Any], now: float) -> list[Any]:
        """Turns a core's effects on the bus into bytes; passes the others on."""
        out: list[Any] = []
        for effect in effects:
            if isinstance(effect, Request):
                out.append(self._ask(effect, now))
            elif isinstance(effect, Answer):
                out += self._finish(effect.token, effect.message, now)
            elif isinstance(effect, Refuse):
                refusal = Refusal(code=effect.refusal.code, rule=effect.refusal.rule, sentence=effect.refusal.sentence)
                self.counters[f"refused.{effect.refusal.code}"] += 1
                out += self._finish(effect.token, refusal, now)
            elif isinstance(effect, Publish):
                out.append(self._publish(effect, now))
            elif isinstance(effect, Count):
                self.counters[effect.name] += effect.by
            else:
                out.append(effect)
        return out

    # ---- inside

    def _begin(
        self,
        verified: Verified,
        verb: str,
        reply: object,
        now: float,
        traceparent: str | None,
        group_id: bytes = b"",
        raw: bytes = b"",
    ) -> list[Any]:
        key = (str(verified.sender.id), verified.request_id)
        entry = self._ledger.get(key)
        if entry is None:
            if len(self._ledger) >= LEDGER_SIZE:
                raise Rejected("overload")
            span = self.telemetry.span(f"{self.service}.{verb}", traceparent, caller=verified.sender.id.name)
            self._ledger[key] = _Entry(
                verified.payload_hash, verified.request_id, verified.sender, reply, verified.deadline_at, span
            )
            event = Requested(
                verb,
                verified.sender,
                verified.message,
                key,
                verified.payload_hash,
                span.traceparent,
                group_id,
                raw,
            )
            return self.handle(event, now)
        if entry.payload_hash != verified.payload_hash:
            raise Rejected("replay", "request id used for something else")
        entry.reply = reply
        if entry.answer is None:
            return []
        self.counters["repeated"] += 1
        event = Requested(verb, verified.sender, verified.message, key, verified.payload_hash, None, group_id)
        try:
            self.core.reauthorise(event, now)
        except Refused as refused:
            return self.carry_out([Refuse(key, refused)], now)
        return [OutgoingAnswer(reply, entry.answer)]

    def _finish(self, token: object, message: Message, now: float) -> list[Any]:
        entry = self._ledger.get(token)  # type: ignore[call-overload] # tokens are ledger keys
        if entry is None:  # its deadline has long passed
            return []
        entry.answer = sign_envelope(
            self.credentials, message, str(entry.caller.id), entry.request_id, now + MAX_LIFETIME, entry.payload_hash
        ).raw
        entry.span.end(message.code if isinstance(message, Refusal) else None)
        return [OutgoingAnswer(entry.reply, entry.answer)]

    def _ask(self, request: Request, now: float) -> OutgoingRequest:
        method = subjects.method_of(request.service, request.verb)
        deadline_at = now + min(request.within, MAX_LIFETIME)
        request_id = self.random(REQUEST_ID_SIZE)
        raw, payload_hash = sign_envelope(self.credentials, request.message, request.recipient, request_id, deadline_at)
        subject = subjects.subject(request.service, self.caller, request.verb)
        span = self.telemetry.span(f"{self.service}→{method.service}.{method.verb}", request.traceparent)
        self._pending[request_id] = _Pending(
            request, raw, subject, payload_hash, deadline_at, min(now + REPEAT_FOR, deadline_at), method, span
        )
        return OutgoingRequest(subject, raw, span.traceparent, request_id)

    def _publish(self, publish: Publish, now: float) -> OutgoingPublication:
        request_id = self.random(REQUEST_ID_SIZE)
        raw, _ = sign_envelope(self.credentials, publish.message, publish.recipient, request_id, now + MAX_LIFETIME)
        if publish.traceparent is None:
            return OutgoingPublication(publish.subject, raw, None)
        span = self.telemetry.span(f"{self.service}→{publish.subject.rsplit('.', 1)[1]}", publish.traceparent)
        span.end()  # a moment, not a duration: when this was known here
        return OutgoingPublication(publish.subject, raw, span.traceparent)

    def _check_rate(self, caller: str, now: float) -> None:
        allowance = self._allowances.setdefault(caller, _Allowance(CALLS_AT_ONCE, now))
        earned = max(0.0, now - allowance.at) * CALLS_PER_SECOND
        allowance.calls, allowance.at = min(CALLS_AT_ONCE, allowance.calls + earned), now
        if allowance.calls < 1:
            raise Rejected("rate")
        allowance.calls -= 1

    def _sweep(self, now: float) -> None:
        if now < self._sweep_at:
            return
        self._sweep_at = now + 10
        for key, entry in list(self._ledger.items()):
            if now > entry.deadline_at + FORGET_AFTER:
                del self._ledger[key]
        for caller, allowance in list(self._allowances.items()):
            if now - allowance.at > 60:
                del self._allowances[caller]
