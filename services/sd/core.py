"""The session directory's decisions (paper, section 3.3): what is announced, what is listed. Sans-I/O.

It lists only what its socket received, its own announcements included, and believes none of it: the MSMs verify.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcsa.endpoint import Answer, Answered, Count, Failed, Published, Refuse, Requested, Woken
from mcsa.errors import Refused, Rejected
from mcsa.sap.cache import Entry
from mcsa.sap.directory import Directory, Send
from mcsa.sap.sdp import LARGEST
from mcsa.v1 import sd_pb2 as wire
from mcsa.v1.types_pb2 import SessionAnnouncement
from services.sd.events import SapArrived, SendSap

ANNOUNCED_PER_HOST = 64
ANNOUNCED = 192  # in all; with them and all that the cache has room for, a list is still one envelope


class SdCore:
    """See the module."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._announced: dict[bytes, str] = {}  # SDP -> host
        self._verbs: dict[str, Callable[[Requested, float], list[Any]]] = {
            "announce": self._announce,
            "withdraw": self._withdraw,
            "list": self._list,
        }

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `mcsa.endpoint.Core`."""
        match event:
            case Requested():
                try:
                    return self._verbs[event.verb](event, now)
                except Refused as refused:
                    return [Refuse(event.token, refused)]
            case SapArrived():
                return self._arrived(event, now)
            case Woken():
                return _sap(self.directory.due(now))
            case Answered() | Failed() | Published():
                return []  # the directory asks nobody
        raise TypeError(event)

    def reauthorise(self, request: Requested, now: float) -> None:
        """See `mcsa.endpoint.Core`: any host of the domain may list and announce."""

    def wake_at(self) -> float | None:
        """See `mcsa.endpoint.Core`."""
        return self.directory.wake_at()

    def _announce(self, request: Requested, now: float) -> list[Any]:
        sdp, host = request.message.sdp, str(request.caller.id)
        if len(sdp) > LARGEST:
            raise Refused("announcement", "size", f"an announcement has at most {LARGEST} bytes, this one {len(sdp)}")
        self._check_room(sdp, host)
        try:
            message_hash, sends = self.directory.announce(sdp, now)
        except Rejected as rejected:
            raise Refused("announcement", rejected.cause, f"the announcement was not accepted: {rejected}") from None
        self._announced.setdefault(sdp, host)
        return [*_sap(sends), Answer(request.token, wire.AnnounceResponse(hash=message_hash))]

    def _check_room(self, sdp: bytes, host: str) -> None:
        self._announced = {text: by for text, by in self._announced.items() if self.directory.announces(text)}
        if sdp in self._announced:
            return
        if sum(announcer == host for announcer in self._announced.values()) >= ANNOUNCED_PER_HOST:
            sentence = f"a host announces at most {ANNOUNCED_PER_HOST} sessions at once"
            raise Refused("too-many", "announcements", sentence)
        if len(self._announced) >= ANNOUNCED:
            sentence = f"a directory announces at most {ANNOUNCED} sessions at once; end some, or run another"
            raise Refused("too-many", "directory", sentence)

    def _withdraw(self, request: Requested, now: float) -> list[Any]:
        sdp, host = request.message.sdp, str(request.caller.id)
        if self._announced.get(sdp, host) != host:
            raise Refused("not-allowed", "own-announcements-only", "another host announced this; only that one ends it")
        self._announced.pop(sdp, None)
        sends = self.directory.withdraw(sdp, request.message.secret)
        return [*_sap(sends), Answer(request.token, wire.WithdrawResponse())]

    def _list(self, request: Requested, now: float) -> list[Any]:
        sessions = [_announcement(entry) for entry in self.directory.sessions(now)]
        return [Answer(request.token, wire.ListResponse(sessions=sessions))]

    def _arrived(self, event: SapArrived, now: float) -> list[Any]:
        try:
            self.directory.arrived(event.payload, event.source, now)
        except Rejected as rejected:
            return [Count(f"rejected.sap.{rejected.cause}")]
        return [Count("sap.heard")]


def _sap(sends: list[Send]) -> list[Any]:
    return [SendSap(send.address, send.payload) for send in sends]


def _announcement(entry: Entry) -> SessionAnnouncement:
    return SessionAnnouncement(
        sdp=entry.packet.payload,
        origin=entry.packet.origin,
        source=entry.source,
        hash=entry.packet.hash,
        first_heard_ms=round(entry.first_heard_at * 1000),
        last_heard_ms=round(entry.last_heard_at * 1000),
    )
