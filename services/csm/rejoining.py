"""Registering anew: after the MSM restarted, after it missed too much, after this CSM restarted. Sans-I/O.

Nothing old is restored: each attempt is a registration like the first. It is tried until it works, is refused for good,
or the time is over; then the conference has failed for this user, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mcsa.errors import Refused
from mcsa.v1 import msm_pb2
from mcsa.v1.types_pb2 import GroupDescription
from services.csm.asking import Effects
from services.csm.joining import Joining
from services.csm.participant import LocalParticipant

AGAIN_AFTER = 1.0  # seconds between attempts
GIVE_UP_AFTER = 60.0  # seconds of attempts
PASSING = (
    "no-answer",
    "busy",
    "superseded",
    "moved",
    "unknown-group",
    "association",
    "group",
)  # codes that time may mend

Joined = Callable[[LocalParticipant, dict[bytes, msm_pb2.JoinGroupResponse], float], Effects]


@dataclass(slots=True)
class _Attempt:
    participant: LocalParticipant
    groups: dict[bytes, GroupDescription]
    at: float
    give_up_at: float
    under_way: bool = False


class Rejoining:
    """See the module. `joined` is told of each success."""

    def __init__(self, host: str, joined: Joined) -> None:
        self._host = host
        self._joined = joined
        self._attempts: dict[tuple[bytes, str], _Attempt] = {}

    def want(self, participant: LocalParticipant, group_ids: Iterable[bytes], now: float) -> None:
        """These groups of the conference need a registration."""
        key = (participant.conference_id, participant.name)
        attempt = self._attempts.setdefault(key, _Attempt(participant, {}, now, now + GIVE_UP_AFTER))
        wanted = set(group_ids)
        attempt.groups.update({group.group_id: group for group in participant.terms.groups if group.group_id in wanted})

    def wake_at(self) -> float | None:
        """When `due` is wanted."""
        return min((attempt.at for attempt in self._attempts.values() if not attempt.under_way), default=None)

    def due(self, now: float) -> Effects:
        """Attempts whose time has come."""
        effects: Effects = []
        for key, attempt in list(self._attempts.items()):
            if attempt.participant.ending.under_way:
                del self._attempts[key]
            elif not attempt.under_way and now >= attempt.at:
                effects += self._begin(attempt)
        return effects

    def _begin(self, attempt: _Attempt) -> Effects:
        attempt.under_way = True
        participant = attempt.participant

        def done(answers: dict[bytes, msm_pb2.JoinGroupResponse], refusal: Refused | None, now: float) -> Effects:
            return self._done(attempt, answers, refusal, now)

        return Joining(
            participant.user,
            self._host,
            participant.terms.description.authorizer,
            participant.conference_id,
            list(attempt.groups.values()),
            done,
            participant.trace,
        ).begin()

    def _done(
        self,
        attempt: _Attempt,
        answers: dict[bytes, msm_pb2.JoinGroupResponse],
        refusal: Refused | None,
        now: float,
    ) -> Effects:
        participant = attempt.participant
        attempt.under_way = False
        for group_id in answers:
            attempt.groups.pop(group_id, None)
        effects = self._joined(participant, answers, now)
        if refusal is not None and (refusal.code not in PASSING or now >= attempt.give_up_at):
            self._forget(participant)
            return [*effects, *participant.fail(f"could not register anew: {refusal.sentence}", now)]
        if attempt.groups:
            attempt.at = now + AGAIN_AFTER
            return effects
        self._forget(participant)
        return [*effects, *participant.changed()]

    def _forget(self, participant: LocalParticipant) -> None:
        self._attempts.pop((participant.conference_id, participant.name), None)
