"""A participant's part from the conference-call to the conference key (paper, section 3.4, receiver's sixth step).

    call of the Coordinator -> response, with a fresh nonce -> RunStart that carries it -> KeyRun -> key

Each run has a call of its own, so that every run has fresh nonces and nobody is in a roster that didn't ask to be.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING, Any

from mcsa.ckgds.run import Established, Failed, KeyRun, Say
from mcsa.control.streams import Delivered
from mcsa.endpoint import Count
from mcsa.errors import Refused, Rejected
from mcsa.keys import ConferenceKey
from mcsa.telemetry import Span
from mcsa.v1.conference_pb2 import CallResponse, ConferenceCall, ControlMessage, RunStart
from mcsa.v1.csm_pb2 import KeyChanged
from services.csm.asking import Effects
from services.csm.events import KeepKey

if TYPE_CHECKING:
    from services.csm.participant import LocalParticipant

NONCE_SIZE = 16
EARLY_MESSAGES = 512  # of runs that we haven't heard begin


class Keying:
    """See the module. `epoch`, `key`, `participants`: of the key in use; 0, None and nobody before the first."""

    def __init__(self, participant: LocalParticipant) -> None:
        self._participant = participant
        self.epoch = 0
        self.key: ConferenceKey | None = None
        self.participants: tuple[str, ...] = ()
        self.ckgds = ""
        self.start: Delivered | None = None
        self.certificates: dict[str, bytes] = {}
        self.run_number = 0
        self._run: KeyRun | None = None
        self._span: Span | None = None
        self._attempt = 0
        self._nonce = b""
        self._trace: str | None = None
        self._early: deque[Delivered] = deque(maxlen=EARLY_MESSAGES)

    # ---- the call

    def called(self, heard: Delivered, call: ConferenceCall, now: float) -> Effects:
        """The Coordinator calls (again)."""
        participant = self._participant
        if call.description_hash != participant.terms.hash:
            return [Count("rejected.call.description")]
        if call.attempt <= self._attempt:
            return [Count("rejected.call.attempt")]
        self._attempt = call.attempt
        self.stop()
        if participant.coordination is not None:
            participant.coordination.own_call(heard)
            participant.advance("call")
            return participant.changed()
        if not participant.advance("response"):
            return []
        self._nonce = participant.setting.random(NONCE_SIZE)
        response = CallResponse(
            attempt=call.attempt,
            ckgds=participant.setting.floor,
            nonce=self._nonce,
            call_hash=hashlib.sha256(heard.raw).digest(),
        )
        trace = heard.message.traceparent
        return [*participant.changed(), *participant.say(ControlMessage(response=response), now, trace)]

    # ---- the run

    def run_started(self, heard: Delivered, start: RunStart, now: float) -> Effects:
        """The Coordinator has fixed what the run depends on; we take part if it is what we agreed to."""
        participant = self._participant
        try:
            self._check_start(start)
            run = KeyRun(
                participant.conference_id,
                heard,
                participant.terms.coordinator,
                participant.user,
                participant.process_id,
                participant.setting.random,
                now,
            )
        except Rejected as rejected:
            return [Count(f"rejected.run-start.{rejected.cause}")]
        except Refused as refused:
            return [Count(f"rejected.run-start.{refused.code}")]
        if not participant.advance("run"):
            return [Count("rejected.run-start.state")]
        self.stop()
        self._run, self.start, self.run_number = run, heard, start.run
        self._span = participant.setting.telemetry.span(
            "csm.key-run",
            heard.message.traceparent,
            scheme=start.ckgds,
            members=len(start.roster),
            epoch=start.key_epoch,
        )
        self._trace = self._span.traceparent
        effects = [*participant.changed(), *self._follow(run.begin(now), now)]
        early, self._early = self._early, deque(maxlen=EARLY_MESSAGES)
        for message in early:
            body = getattr(message.message, message.message.WhichOneof("body") or "")
            effects += self.run_message(message, body, now)
        return effects

    def _check_start(self, start: RunStart) -> None:
        participant = self._participant
        own = next((entry for entry in start.roster if entry.user == participant.name), None)
        if own is None or own.process_id != participant.process_id:
            raise Rejected("not-in-roster")
        if not participant.is_coordinator and (not self._nonce or own.nonce != self._nonce):
            raise Rejected("nonce", "not the one of our response")
        if own.certificate_fingerprint != participant.user.identity.fingerprint:
            raise Rejected("fingerprint")
        if start.policy_hash != participant.terms.hash:
            raise Rejected("policy")
        if start.ckgds not in participant.setting.floor:
            raise Rejected("floor", start.ckgds)
        if start.key_epoch <= self.epoch or start.run <= self.run_number:
            raise Rejected("epoch")
        if not participant.ejected <= set(start.ejected):
            raise Rejected("ejected", "forgets somebody that was thrown out")
        if set(start.ejected) & {entry.user for entry in start.roster}:
            raise Rejected("ejected", "is in the roster")

    def run_message(self, heard: Delivered, body: Any, now: float) -> Effects:
        """A message of a run. One of a run that we haven't heard begin waits: streams overtake each other, and each
        message is delivered once."""
        self.certificates[heard.user] = heard.certificate
        if body.run > self.run_number:
            self._early.append(heard)
            return []
        if self._run is None or body.run < self.run_number:
            return [Count("late.run-message")]
        try:
            return self._follow(self._run.message_arrived(heard, now), now)
        except Rejected as rejected:
            return [Count(f"rejected.run.{rejected.cause}")]

    def _follow(self, wishes: list[Any], now: float) -> Effects:
        effects: Effects = []
        for wish in wishes:
            match wish:
                case Say():
                    effects += self._participant.say(wish.message, now, self._trace)
                case Established():
                    effects += self._established(wish, now)
                case Failed():
                    effects += self._failed(wish, now)
                case _:
                    effects.append(wish)
        return effects

    def _established(self, established: Established, now: float) -> Effects:
        participant = self._participant
        if self._run is None or not participant.advance("activated"):
            return []
        self.epoch, self.key = established.key_epoch, established.key
        self.participants, self.ckgds = established.participants, self._run.scheme.name
        participant.absent -= set(established.participants)
        self._end()
        effects: Effects = [KeepKey(participant.conference_id, participant.name, self.epoch, self.key)]
        event = self.key_event()
        if event is not None:
            effects += participant.attached.tell(event)
        effects += participant.changed()
        if participant.coordination is not None:
            effects += participant.coordination.established(now)
        return effects

    def _failed(self, failed: Failed, now: float) -> Effects:
        participant = self._participant
        self._end(error="failed")
        participant.advance("aborted")
        participant.absent |= set(failed.absent)
        effects = [Count("runs.failed"), *participant.changed()]
        if participant.coordination is not None:
            effects += participant.coordination.run_failed(failed, now)
        return effects

    def key_event(self) -> KeyChanged | None:
        """The key in use, for applications of this account."""
        if self.key is None:
            return None
        return KeyChanged(
            conference_id=self._participant.conference_id,
            key_epoch=self.epoch,
            key=self.key.reveal(),
            participants=self.participants,
            traceparent=self._trace or "",
        )

    # ---- time, end

    def wake_at(self) -> float | None:
        """When `due` is wanted."""
        return None if self._run is None else self._run.wake_at()

    def due(self, now: float) -> Effects:
        """A run whose time is over."""
        return [] if self._run is None else self._follow(self._run.due(now), now)

    def stop(self) -> None:
        """Gives a run up that is under way."""
        self._end(error="stopped")

    def _end(self, error: str | None = None) -> None:
        if self._run is not None:
            self._run.stop()
            self._run = None
        if self._span is not None:
            self._span.end(error)
            self._span = None
