"""The session directory's decisions (paper, section 3.3): what is announced, what is listed. Sans-I/O.

It lists only what its socket received, its own announcements included, and believes none of it: the MSMs verify. What
it announces and what it has heard is written down, so that it goes on after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcsa.endpoint import Answer, Answered, Count, Failed, Published, Refuse, Requested, Woken
from mcsa.errors import Refused, Rejected
from mcsa.sap.announced import Send
from mcsa.sap.directory import Directory
from mcsa.sap.entry import Entry
from mcsa.sap.sdp import LARGEST
from mcsa.sap.state import read_state, write_state
from mcsa.v1 import sd_pb2 as wire
from mcsa.v1.types_pb2 import SessionAnnouncement
from services.sd.events import KeepState, Recovered, SapArrived, SendSap

ANNOUNCED_PER_HOST = 64
ANNOUNCED = 192  # in all; with them and all that the cache has room for, a list is still one envelope
CLASHES_TOLD = 8  # with one announcement
SCOPES_TOLD = 3  # of one session
KEPT_WITHIN = 1.0  # seconds until what is announced is written down: several share one writing
HEARD_KEPT_WITHIN = 30.0  # seconds until what is heard is: the network says it again anyway
SET_BACK = 1.0  # seconds that a clock goes back before it is noticed


class SdCore:
    """See the module."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._keep_at: float | None = None
        self._last = 0.0
        self._verbs: dict[str, Callable[[Requested, float], list[Any]]] = {
            "announce": self._announce,
            "withdraw": self._withdraw,
            "list": self._list,
        }

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `mcsa.endpoint.Core`."""
        set_back, self._last = now < self._last - SET_BACK, now
        if set_back:  # what is due was reckoned by another clock
            self._keep_at = now + KEPT_WITHIN
            return [*_sap(self.directory.due(now)), *self._decide(event, now)]
        return self._decide(event, now)

    def _decide(self, event: Any, now: float) -> list[Any]:
        match event:
            case Requested():
                try:
                    return self._verbs[event.verb](event, now)
                except Refused as refused:
                    return [Refuse(event.token, refused)]
            case SapArrived():
                return self._arrived(event, now)
            case Woken():
                return [*_sap(self.directory.due(now)), *self._kept(now)]
            case Recovered():
                return self._recovered(event, now)
            case Answered() | Failed() | Published():
                return []  # the directory asks nobody
        raise TypeError(event)

    def reauthorise(self, request: Requested, now: float) -> None:
        """See `mcsa.endpoint.Core`: any host of the domain may list and announce."""

    def wake_at(self) -> float | None:
        """See `mcsa.endpoint.Core`."""
        times = [at for at in (self.directory.wake_at(), self._keep_at) if at is not None]
        return min(times, default=None)

    # ---- verbs

    def _announce(self, request: Requested, now: float) -> list[Any]:
        sdp, host = request.message.sdp, str(request.caller.id)
        if len(sdp) > LARGEST:
            raise Refused("announcement", "size", f"an announcement has at most {LARGEST} bytes, this one {len(sdp)}")
        known = self.directory.find_announced(sdp)
        if known is None:
            self._check_room(host)
        try:
            message_hash, sends = self.directory.announce(sdp, now, host)
        except Rejected as rejected:
            raise Refused("announcement", rejected.cause, f"the announcement was not accepted: {rejected}") from None
        if known is None:
            self._keep_soon(now + KEPT_WITHIN)
        announced = self.directory.find_announced(sdp)
        assert announced is not None  # just now
        response = wire.AnnounceResponse(
            hash=message_hash,
            clashes=[self._told(entry) for entry in self.directory.clashes(sdp, now)[:CLASHES_TOLD]],
            announced_ms=round(announced.announced_at * 1000),
        )
        return [*_sap(sends), Answer(request.token, response)]

    def _check_room(self, host: str) -> None:
        announced = self.directory.announced()
        if sum(own.host == host for own in announced) >= ANNOUNCED_PER_HOST:
            sentence = f"a host announces at most {ANNOUNCED_PER_HOST} sessions at once; withdraw some"
            raise Refused("too-many", "announcements", sentence)
        if len(announced) >= ANNOUNCED:
            sentence = f"a directory announces at most {ANNOUNCED} sessions at once; end some, or run another"
            raise Refused("too-many", "directory", sentence)

    def _withdraw(self, request: Requested, now: float) -> list[Any]:
        sdp, secret, host = request.message.sdp, request.message.secret, str(request.caller.id)
        announced = self.directory.find_announced(sdp)
        speaks_for_it = (
            bool(secret) and announced is not None and announced.commitment is not None
        )  # if it is the secret
        if announced is not None and announced.host != host and not speaks_for_it:
            raise Refused("not-allowed", "own-announcements-only", "another host announced this; only that one ends it")
        try:
            sends = self.directory.withdraw(sdp, secret, now)
        except Rejected as rejected:
            sentence = f"the announcement was not withdrawn: {rejected}; the secret is made by who described it"
            raise Refused("withdrawal", rejected.cause, sentence) from None
        self._keep_soon(now + KEPT_WITHIN)
        return [*_sap(sends), Answer(request.token, wire.WithdrawResponse())]

    def _list(self, request: Requested, now: float) -> list[Any]:
        sessions = [self._told(entry) for entry in self.directory.sessions(now)]
        return [Answer(request.token, wire.ListResponse(sessions=sessions))]

    def _told(self, entry: Entry) -> SessionAnnouncement:
        scopes = self.directory.place.scopes
        return SessionAnnouncement(
            sdp=entry.packet.payload,
            origin=entry.packet.origin,
            source=entry.source,
            hash=entry.packet.hash,
            first_heard_ms=round(entry.first_heard_at * 1000),
            last_heard_ms=round(entry.last_heard_at * 1000),
            expires_ms=round(self.directory.cache.expires_at_of(entry) * 1000),
            scopes=sorted(scopes.name_of(group) for group in entry.groups)[:SCOPES_TOLD],
        )

    # ---- the network

    def _arrived(self, event: SapArrived, now: float) -> list[Any]:
        try:
            self.directory.arrived(event.payload, event.source, event.group, now)
        except Rejected as rejected:
            return [Count(f"rejected.sap.{rejected.cause}")]
        self._keep_soon(now + HEARD_KEPT_WITHIN)
        return [Count("sap.heard")]

    # ---- the disk

    def _recovered(self, event: Recovered, now: float) -> list[Any]:
        try:
            left_out = read_state(self.directory, event.state, now)
        except Rejected:
            return [Count("state.unreadable")]
        return [Count("state.left-out", left_out)] if left_out else []

    def _keep_soon(self, at: float) -> None:
        self._keep_at = at if self._keep_at is None else min(self._keep_at, at)

    def _kept(self, now: float) -> list[Any]:
        if self._keep_at is None or now < self._keep_at:
            return []
        self._keep_at = None
        return [self.state(now)]

    def state(self, now: float) -> KeepState:
        """All that is to be written down."""
        return KeepState(write_state(self.directory, now))


def _sap(sends: list[Send]) -> list[Any]:
    return [SendSap(send.network, send.address, send.payload) for send in sends]
