"""How a participation ends: the last words are repeated until they have arrived, the record is countersigned and
written, the groups are left.

    leave | closing | failure -> lingering -> countersigning -> ended
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcsa.control.streams import Delivered
from mcsa.endpoint import Count
from mcsa.errors import Refused, Rejected
from mcsa.v1 import msm_pb2
from mcsa.v1.conference_pb2 import Closing, ControlMessage, Departure
from services.csm import transitions as life
from services.csm.asking import Effects, ask_msm
from services.csm.events import CloseRelay, KeepKey, Remember, WriteRecord

if TYPE_CHECKING:
    from services.csm.participant import LocalParticipant

LINGER = 2.0  # seconds that last words are repeated for who hasn't confirmed them
COUNTERSIGN_WITHIN = 5.0  # seconds; without broker or Authorizer the record stays without its countersignature


class Ending:
    """See the module."""

    def __init__(self, participant: LocalParticipant) -> None:
        self._participant = participant
        self._until: float | None = None
        self._positions: dict[bytes, int] = {}
        self._countersigning = False
        self._state = life.CLOSED
        self._waiting: list[Callable[[], Effects]] = []
        self.ended = False
        self.countersigned = False

    @property
    def under_way(self) -> bool:
        """True from the first last word on."""
        return self._until is not None or self._countersigning or self.ended

    @property
    def record_is_final(self) -> bool:
        """From the request for the countersignature on: it is over this head."""
        return self._countersigning or self.ended

    def leave(self, then: Callable[[], Effects], now: float) -> Effects:
        """The user leaves; with the Coordinator the conference ends. `then` is called when all is done."""
        if self.ended:
            return then()
        self._waiting.append(then)
        if self.under_way:
            return []
        participant = self._participant
        positions = participant.streams.positions()
        if participant.is_coordinator:
            closing = Closing(reason="the Coordinator left", positions=positions)
            return [*participant.say(ControlMessage(closing=closing), now), *self.look(now)]
        self._begin(now)
        departure = Departure(positions=positions)
        return [*participant.say(ControlMessage(departure=departure), now), *self.look(now)]

    def closing(self, _heard: Delivered, closing: Closing, now: float) -> Effects:
        """The Coordinator has closed the conference."""
        self._positions = {position.process_id: position.sequence for position in closing.positions}
        self._begin(now)
        return []

    def failed(self, now: float) -> Effects:
        """Nobody is left to repeat anything for."""
        self._state = life.FAILED
        return [] if self.under_way else self._countersign(now)

    def _begin(self, now: float) -> None:
        if not self.under_way:
            self._participant.keying.stop()
            self._until = now + LINGER

    def wake_at(self) -> float | None:
        """When `look` is wanted."""
        return self._until

    def look(self, now: float) -> Effects:
        """Whether the last words have arrived, here and there."""
        if self._until is None or (now < self._until and not self._arrived()):
            return []
        return self._countersign(now)

    def _arrived(self) -> bool:
        streams = self._participant.streams
        have = {position.process_id: position.sequence for position in streams.positions()}
        if any(have.get(process_id, 0) < sequence for process_id, sequence in self._positions.items()):
            return False
        gone = {self._participant.name, *self._participant.departed}
        return streams.settled(set(self._participant.keying.participants) - gone)

    def _countersign(self, now: float) -> Effects:
        self._until, self._countersigning = None, True
        participant = self._participant
        asked = msm_pb2.CountersignRecordRequest(
            conference_id=participant.conference_id,
            head=participant.record.head,
            authorizer=participant.terms.description.authorizer,
        )
        return [self._ask("countersign-record", asked, self._countersigned, self._not_countersigned)]

    def _countersigned(self, response: msm_pb2.CountersignRecordResponse, now: float) -> Effects:
        try:
            self._participant.record.countersigned(response.countersignature, now)
        except Rejected as rejected:
            return [Count(f"record.not-countersigned.{rejected.cause}"), *self._end(now)]
        self.countersigned = True
        return self._end(now)

    def _not_countersigned(self, refusal: Refused, now: float) -> Effects:
        return [Count(f"record.not-countersigned.{refusal.code}"), *self._end(now)]

    def _end(self, now: float) -> Effects:
        participant = self._participant
        self.ended = True
        participant.advance(self._state)
        effects: Effects = [
            WriteRecord(participant.record_name, participant.record.serialised()),
            KeepKey(participant.conference_id, participant.name, 0, None),
            Remember(participant.conference_id, participant.name, None),
            CloseRelay(participant.terms.control.group_id),
        ]
        for group in participant.terms.groups:
            left = msm_pb2.LeaveGroupRequest(group_id=group.group_id, user=participant.name)
            effects.append(self._ask("leave-group", left))
        if participant.is_coordinator:
            withdrawn = msm_pb2.WithdrawSessionRequest(conference_id=participant.conference_id)
            effects.append(self._ask("withdraw-session", withdrawn))
        effects += participant.changed()
        for then in self._waiting:
            effects += then()
        return effects

    def _ask(
        self,
        verb: str,
        message: Any,
        answered: Callable[[Any, float], Effects] = lambda _message, _now: [],
        refused: Callable[[Refused, float], Effects] = lambda refusal, _now: [Count(f"unanswered.{refusal.code}")],
    ) -> Any:
        host = self._participant.setting.host
        return ask_msm(host, verb, message, answered, refused, self._participant.trace, COUNTERSIGN_WITHIN)
