"""Who on this host is in which conference. Those that have ended stay, to be looked at."""

from __future__ import annotations

from collections.abc import Iterator

from mcsa.errors import Refused
from services.csm.participant import LocalParticipant

CONFERENCES_AT_ONCE = 256


class Participants:
    """By conference and user."""

    def __init__(self) -> None:
        self._all: dict[tuple[bytes, str], LocalParticipant] = {}

    def __iter__(self) -> Iterator[LocalParticipant]:
        return iter(list(self._all.values()))

    def add(self, participant: LocalParticipant) -> None:
        """One more, or one again."""
        self._all[participant.conference_id, participant.name] = participant

    def check_room(self) -> None:
        """Raises `Refused` where this host is in too many conferences."""
        live = sum(not participant.ending.ended for participant in self)
        if live >= CONFERENCES_AT_ONCE:
            raise Refused("too-many", "conferences", f"this host is in {live} conferences already; leave one first")

    def live(self, conference_id: bytes, user: str) -> LocalParticipant | None:
        """That participation, if it hasn't ended."""
        found = self._all.get((conference_id, user))
        return None if found is None or found.ended else found

    def of_group(self, group_id: bytes) -> list[LocalParticipant]:
        """Those of the conference that the group belongs to, as long as they aren't done with it."""
        return [
            participant
            for participant in self
            if not participant.ending.ended and any(group.group_id == group_id for group in participant.terms.groups)
        ]

    def find(self, conference_id: bytes, user: str) -> LocalParticipant:
        """The one that is meant; `user` may be empty where there is one only. `Refused` otherwise."""
        found = [one for one in self if one.conference_id == conference_id and user in ("", one.name)]
        if not found:
            who = user or "no user of this host"
            raise Refused("unknown-conference", "participation", f"{who} is not in this conference; join it first")
        if len(found) > 1:
            raise Refused("user", "several", "several users of this host are in this conference: say which")
        return found[0]

    def coordinator_of(self, conference_id: bytes, action: str) -> LocalParticipant:
        """The Coordinator, where it is a user of this host; `Refused` otherwise, with what only it may do."""
        for participant in self:
            if participant.conference_id == conference_id and participant.is_coordinator and not participant.ended:
                return participant
        sentence = f"only the conference's Coordinator may {action}, and it is no user of this host"
        raise Refused("not-allowed", f"coordinator-only-{action}", sentence)
