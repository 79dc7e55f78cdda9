"""What this host has the directory announce, until it is withdrawn. Sans-I/O.

    AnnounceSession -> announce -> asked for again each half minute -> WithdrawSession -> withdraw, until it has worked

The directory forgets what nobody asks for any more, and may have lost what it knew: asking again mends both, and brings
what else is announced at the same addresses. A newer description of a conference withdraws the earlier ones.

What deletes an announcement is a secret derived from a key of this host's alone, from the conference's id and from the
version in its o= line. So nothing has to be remembered: an MSM that restarted finds its announcements in the list, by
their commitments, and can go on with them or end them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mcsa import subjects
from mcsa.endpoint import Answer, Answered, Count, Failed, Refuse, Request, Requested
from mcsa.errors import Refused, Rejected
from mcsa.keys import Secret
from mcsa.sap.announcement import append_signature, parse_announcement
from mcsa.sap.entry import WITHDRAWAL, commitment_of
from mcsa.sap.sdp import canonical, parse_sdp
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1 import sd_pb2 as sd_wire
from mcsa.v1.types_pb2 import SessionAnnouncement

WITHDRAWAL_LABEL = "mcsa withdrawal v1"
ASKED_AGAIN_EACH = 30.0  # seconds; the directory's lease is an hour
AGAIN_AFTER = 10.0  # seconds after which a withdrawal that failed is tried again
ANNOUNCED_AT_ONCE = 64  # by one host; the directory takes no more

Effects = list[Any]


class WithdrawalKey(Secret):
    """Of one host; its announcements' secrets come from it."""


class _Secret(Secret):
    """Ends one version of one announcement."""


@dataclass(slots=True)
class Own:
    """One announcement of this host's. `ending`: it is to be withdrawn, and isn't yet."""

    conference_id: bytes
    version: int
    sdp: bytes
    at: float
    ending: bool = False
    clashing: bool = False


@dataclass(frozen=True, slots=True)
class _Announcing:
    token: object
    sdp: bytes


@dataclass(frozen=True, slots=True)
class _AskedAgain:
    sdp: bytes


@dataclass(frozen=True, slots=True)
class _Withdrawing:
    sdp: bytes
    token: object | None = None


@dataclass(frozen=True, slots=True)
class _Finding:
    """Announcements of before this process; `token` of a withdrawal that waits for them."""

    conference_id: bytes = b""
    token: object | None = None


Clashed = Callable[[Own, Iterable[SessionAnnouncement], float, float], Effects]
"""Told of an own announcement, other sessions that use an address of its (none: no longer any), since when it is
announced, and now."""


def _nothing(_own: Own, _clashes: Iterable[SessionAnnouncement], _announced_at: float, _now: float) -> Effects:
    return []


class Announcing:
    """See the module. `recover`: an earlier process may have left announcements, which are to go on."""

    def __init__(
        self, key: WithdrawalKey, directory: str, *, recover: bool = False, clashed: Clashed = _nothing
    ) -> None:
        self._key = key
        self._directory = directory
        self._clashed = clashed
        self._own: dict[bytes, Own] = {}  # by their text
        self._recover_at: float | None = 0.0 if recover else None

    def commitment(self, conference_id: bytes, version: int) -> bytes:
        """SHA-256 of the secret, for the description."""
        return hashlib.sha256(self._secret(conference_id, version)).digest()

    def _secret(self, conference_id: bytes, version: int) -> bytes:
        return _Secret.derive(self._key, WITHDRAWAL_LABEL, conference_id, version).reveal()

    # ---- the CSM's verbs

    def announce(self, request: Requested, now: float) -> Effects:
        """`AnnounceSession`."""
        message: wire.AnnounceSessionRequest = request.message
        sdp = append_signature(message.unsigned_sdp, message.signature, message.signer_fingerprint)
        try:
            session = parse_announcement(sdp)
        except Rejected as rejected:
            raise Refused("announcement", rejected.cause, f"the announcement is not good SDP: {rejected}") from None
        if len(self._own) >= ANNOUNCED_AT_ONCE and sdp not in self._own:
            sentence = f"this host announces {len(self._own)} sessions already; withdraw some"
            raise Refused("too-many", "announcements", sentence)
        self._own[sdp] = Own(session.conference_id, session.version, sdp, now + ASKED_AGAIN_EACH)
        return [self._ask_to_announce(sdp, _Announcing(request.token, sdp), request.traceparent)]

    def withdraw(self, request: Requested, now: float) -> Effects:
        """`WithdrawSession`. Where it fails it is tried again, until it has worked."""
        conference_id = request.message.conference_id
        own = self._of(conference_id)
        if not own:
            finding = _Finding(conference_id, request.token)
            return [self._ask("list", sd_wire.ListRequest(), finding, request.traceparent, within=5.0)]
        return self._end(own, request.token, now, request.traceparent)

    def _of(self, conference_id: bytes) -> list[Own]:
        """The newest last."""
        own = [each for each in self._own.values() if each.conference_id == conference_id]
        return sorted(own, key=lambda each: each.version)

    def _older(self, sdp: bytes) -> list[Own]:
        """Descriptions of the same conference that this one takes the place of."""
        own = self._own.get(sdp)
        return [] if own is None else [each for each in self._of(own.conference_id) if each.version < own.version]

    def _end(self, own: list[Own], token: object | None, now: float, traceparent: str | None = None) -> Effects:
        effects: Effects = []
        for each in own:
            each.ending, each.at = True, now + AGAIN_AFTER
            secret = self._secret(each.conference_id, each.version)
            message = sd_wire.WithdrawRequest(sdp=each.sdp, secret=secret)
            withdrawing = _Withdrawing(each.sdp, token if each is own[-1] else None)
            effects.append(self._ask("withdraw", message, withdrawing, traceparent))
        return effects

    # ---- what comes back

    def answered(self, event: Answered, now: float) -> Effects | None:
        """None where it is none of the requests made here."""
        match event.token:
            case _Announcing(token, sdp):
                effects = [Answer(token, wire.AnnounceSessionResponse()), *self._end(self._older(sdp), None, now)]
                return effects + self._look_at(sdp, event.message, now)
            case _AskedAgain(sdp):
                return self._look_at(sdp, event.message, now)
            case _Withdrawing(sdp, token):
                self._own.pop(sdp, None)
                return [] if token is None else [Answer(token, wire.WithdrawSessionResponse())]
            case _Finding(conference_id, token):
                self._recover_at = None
                self._adopt(event.message.sessions, now)
                own_ones = self._of(conference_id) if token is not None else []
                if own_ones:
                    return self._end(own_ones, token, now)
                return [] if token is None else [Answer(token, wire.WithdrawSessionResponse())]
        return None

    def failed(self, event: Failed, now: float) -> Effects | None:
        """Likewise."""
        match event.token:
            case _Announcing(token, sdp):
                own = self._own.get(sdp)
                unanswered = event.refusal.code == "no-answer"  # then it may be announced all the same
                ended = self._end([own], None, now) if own is not None and unanswered else []
                if not unanswered:
                    self._own.pop(sdp, None)
                return [*ended, Refuse(token, event.refusal)]
            case _AskedAgain(sdp):
                if event.refusal.code == "announcement":  # it has ended, or was withdrawn
                    self._own.pop(sdp, None)
                return [Count(f"announcement.not-again.{event.refusal.code}")]
            case _Withdrawing(sdp, token):
                if event.refusal.code not in ("no-answer", "nobody-serves", "too-many"):
                    self._own.pop(sdp, None)  # it won't work tomorrow either
                counted: Effects = [Count(f"withdrawal.failed.{event.refusal.code}")]
                return counted if token is None else [*counted, Refuse(token, event.refusal)]
            case _Finding(_, token):
                if token is not None:
                    return [Refuse(token, event.refusal)]
                self._recover_at = now + AGAIN_AFTER
                return []
        return None

    def _look_at(self, sdp: bytes, response: sd_wire.AnnounceResponse, now: float) -> Effects:
        own = self._own.get(sdp)
        if own is None or own.ending or not (response.clashes or own.clashing):
            return []
        own.clashing = bool(response.clashes)
        return self._clashed(own, response.clashes, response.announced_ms / 1000, now)

    def _adopt(self, announcements: Iterable[SessionAnnouncement], now: float) -> None:
        """Those that an earlier process of this host has made, whatever its address was then: nobody else could have
        made their commitments. Who has heard one can put it into other texts, so it counts for the one that was heard
        first."""
        adopted = {(own.conference_id, own.version) for own in self._own.values()}
        for announcement in announcements:
            sdp = canonical(announcement.sdp)  # it may have been heard at the link's address
            try:
                session, found = parse_announcement(sdp), parse_sdp(sdp)
            except Rejected:
                continue
            named = session.conference_id, session.version
            if not session.conference_id or named in adopted:
                continue
            if found.attribute(WITHDRAWAL) == commitment_of(self._secret(*named)):
                adopted.add(named)
                self._own[sdp] = Own(*named, sdp, now)

    # ---- time

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        times = [own.at for own in self._own.values()]
        return min(times if self._recover_at is None else [*times, self._recover_at], default=None)

    def woken(self, now: float) -> Effects:
        """What is announced is asked for again, what is to end is ended, what an earlier process left is looked for."""
        effects: Effects = []
        if self._recover_at is not None and now >= self._recover_at:
            self._recover_at = now + AGAIN_AFTER
            effects.append(self._ask("list", sd_wire.ListRequest(), _Finding(), None, within=5.0))
        for own in [own for own in self._own.values() if now >= own.at]:
            if own.ending:
                effects += self._end([own], None, now)
            else:
                own.at = now + ASKED_AGAIN_EACH
                effects.append(self._ask_to_announce(own.sdp, _AskedAgain(own.sdp), None))
        return effects

    def _ask_to_announce(self, sdp: bytes, token: object, traceparent: str | None) -> Request:
        return self._ask("announce", sd_wire.AnnounceRequest(sdp=sdp), token, traceparent)

    def _ask(self, verb: str, message: Any, token: object, traceparent: str | None, within: float = 10.0) -> Request:
        return Request(subjects.SD, verb, message, self._directory, token, within, traceparent)
