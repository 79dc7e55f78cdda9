"""What changes from one look at the directory to the next. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mcsa.errors import Rejected
from mcsa.sap.sdp import parse_sdp
from mcsa.v1.msm_pb2 import Session

SHOWN_FOR = 10.0  # seconds that something is shown as new, changed or ended

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """`what` is "new", "changed" or "ended"."""

    what: str
    session: Session


@dataclass(slots=True)
class Watched:
    """A session, and what was last seen to happen to it ("" for nothing), with the time."""

    session: Session
    what: str
    at: float


class Watching:
    """A list of sessions over time."""

    def __init__(self) -> None:
        self._watched: dict[Key, Watched] = {}
        self._began = False

    def look(self, sessions: Iterable[Session], now: float) -> list[Change]:
        """What has happened since the last look; of the first one everything is new, but not shown so."""
        found = {key_of(session): session for session in sessions}
        changes = []
        for key, session in found.items():
            known = self._watched.get(key)
            if known is None or known.what == "ended":
                self._watched[key] = Watched(session, "new" if self._began else "", now)
                changes.append(Change("new", session))
            elif _says(session) != _says(known.session):
                self._watched[key] = Watched(session, "changed", now)
                changes.append(Change("changed", session))
            else:
                known.session = session
        for key, known in self._watched.items():
            if key not in found and known.what != "ended":
                known.what, known.at = "ended", now
                changes.append(Change("ended", known.session))
        self._began = True
        return changes

    def rows(self, now: float) -> list[Watched]:
        """What is to be shown: verified ones first, in the order of their first hearing; news for a while."""
        for key, known in list(self._watched.items()):
            if now - known.at >= SHOWN_FOR:
                if known.what == "ended":
                    del self._watched[key]
                known.what = ""
        return sorted(self._watched.values(), key=lambda one: (not one.session.verified, _heard(one.session)))


def key_of(session: Session) -> Key:
    """The session, whichever version of its description: by whom it is announced, and o= without its version."""
    announcement = session.announcement
    try:
        named = parse_sdp(announcement.sdp).session
    except Rejected:  # the directory's word, and it was good there
        named = ()
    return session.conference_id, announcement.source, announcement.origin, named


def _heard(session: Session) -> int:
    return session.announcement.first_heard_ms


def _says(session: Session) -> tuple[object, ...]:
    return session.announcement.sdp, session.verified, session.remark, tuple(session.clashes)
