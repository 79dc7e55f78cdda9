"""One run of a key scheme at one participant, authenticated and confirmed (design, section 9). Sans-I/O.

    RunStart -> rounds -> everybody's signed confirmation -> the Coordinator's `activate` with all of them -> key
                   \\-> accusation with evidence, silence, confirmations that differ -> `abort` -> no key

The scheme is algebra; here are the nonces and signatures (Katz & Yung 2003: the signed messages of the transport, the
roster's nonces in the run hash), the confirmation (Katz & Shin 2005), and the binding of the key to conference, roster,
epoch and transcript. A run is aborted or activated, never both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from mcsa.ckgds.interface import scheme_named
from mcsa.ckgds.messages import Established, Failed, Heard, Say
from mcsa.ckgds.participation import run_hash_of, sign_participation, verify_participation
from mcsa.ckgds.rounds import CheatError, Rounds, run_context
from mcsa.control.fragments import MESSAGE_MAX
from mcsa.endpoint import Count
from mcsa.errors import Rejected
from mcsa.identity import Credentials
from mcsa.keys import ConferenceKey, Random
from mcsa.v1.conference_pb2 import (
    Abort,
    Accusation,
    Activate,
    ControlMessage,
    Fragment,
    Opening,
    Participation,
    RunConfirmation,
    RunRound,
)
from mcsa.v1.types_pb2 import SignedStatement

__all__ = ["Established", "Failed", "Heard", "KeyRun", "Say"]

RUN_WITHIN = 20.0  # seconds; a lost message is repaired within a few hundred milliseconds
COORDINATOR_GRACE = 5.0  # seconds that a participant waits for the Coordinator's word after that
BODY_MAX = MESSAGE_MAX - 256  # bytes; the rest is for the ControlMessage around it and its traceparent
OPEN_WITHIN = 5.0  # seconds for the secrets of an aborted run

Effects = list[Any]


class KeyRun:
    """See the module. Everything that is said, our own included, comes in by `message_arrived`."""

    def __init__(
        self,
        conference_id: bytes,
        start: Heard,
        coordinator: str,
        me: Credentials,
        process_id: bytes,
        random: Random,
        now: float,
        *,
        within: float = RUN_WITHIN,
    ) -> None:
        """`Refused("unknown-ckgds")`; `Rejected`: "roster" (no sound one), "not-in-roster" (we aren't in it)."""
        body = start.message.run_start
        self.run, self.key_epoch = body.run, body.key_epoch
        self.run_hash = run_hash_of(start.raw)
        self.scheme = scheme_named(body.ckgds)
        self._members = list(body.roster)
        self.roster = tuple(member.user for member in self._members)
        if len(set(self.roster)) != len(self.roster) or self.roster[:1] != (coordinator,):
            raise Rejected("roster", "names somebody twice, or the Coordinator not first")
        self._place = {user: index for index, user in enumerate(self.roster)}
        self._index = self._place.get(str(me.id), -1)
        if self._index < 0 or self._members[self._index].process_id != process_id:
            raise Rejected("not-in-roster")
        self._conference_id = conference_id
        self._me = me
        self._coordinates = self._index == 0
        self._rounds = Rounds(
            self.scheme, self._index, len(self.roster), run_context(conference_id, self.run_hash), random
        )
        self._deadline_at = now + within + (0.0 if self._coordinates else COORDINATOR_GRACE)
        self._key: ConferenceKey | None = None
        self._own: tuple[bytes, bytes] = (b"", b"")  # transcript hash, confirmation
        self._confirmed: dict[int, tuple[Participation, SignedStatement, Heard]] = {}
        self._opened: dict[int, bytes] | None = None
        self._over = False

    # ---- from outside

    def begin(self, now: float) -> Effects:
        """The first words."""
        return self._go_on(now)

    def message_arrived(self, heard: Heard, now: float) -> Effects:
        """A message of this run. Raises `Rejected`: what is wrong with it."""
        kind = heard.message.WhichOneof("body") or ""
        body = getattr(heard.message, kind)
        if body.run != self.run or (hasattr(body, "run_hash") and body.run_hash != self.run_hash):
            raise Rejected("wrong-run", kind)
        index = self._place_of(heard)
        if self._over and not (kind == "opening" and self._opened is not None):
            return []
        handlers: dict[str, Callable[[int, Heard, Any, float], Effects]] = {
            "run_round": self._said,
            "run_confirmation": self._confirmation,
            "activate": self._activated,
            "abort": self._aborted,
            "opening": self._opening,
            "accusation": self._accused,
        }
        return handlers[kind](index, heard, body, now) if kind in handlers else []

    def wake_at(self) -> float | None:
        """When `due` is wanted."""
        return None if self._over and self._opened is None else self._deadline_at

    def due(self, now: float) -> Effects:
        """The time is over."""
        if now < self._deadline_at or (self._over and self._opened is None):
            return []
        if self._opened is not None:
            return self._judge()
        if not self._coordinates:
            return self._fail("the Coordinator brought the run to no end in time", absent=(self.roster[0],))
        silent = self._rounds.silent() or [i for i in range(len(self.roster)) if i not in self._confirmed]
        names = tuple(self.roster[index] for index in silent)
        return self._abort(f"nothing heard in time from {', '.join(names)}", absent=names)

    def stop(self) -> None:
        """The run is given up; its secrets are forgotten."""
        self._over, self._key, self._opened = True, None, None

    # ---- rounds

    def _place_of(self, heard: Heard) -> int:
        index = self._place.get(heard.user, -1)
        if index < 0:
            raise Rejected("not-in-roster", heard.user[:80])
        member = self._members[index]
        fingerprint = hashlib.sha256(heard.certificate).digest()
        if (heard.process_id, fingerprint) != (member.process_id, member.certificate_fingerprint):
            raise Rejected("not-in-roster", "another process or certificate")
        return index

    def _said(self, index: int, heard: Heard, body: RunRound, now: float) -> Effects:
        before = self._rounds.heard.get((body.round, index))
        if before is not None:
            if before.message.run_round.payload == body.payload:
                return []
            return self._accuse(index, "equivocation", [before, heard])
        self._rounds.take(body.round, index, heard)
        return self._go_on(now)

    def _go_on(self, now: float) -> Effects:
        """Speaks what is to be said now, ends rounds that are complete, confirms after the last."""
        effects: Effects = []
        try:
            while True:
                spoken = self._rounds.speak()
                if spoken is not None:
                    number, payload = spoken
                    said = RunRound(run=self.run, run_hash=self.run_hash, round=number, payload=payload)
                    said.heard_hash = self._rounds.heard_before(number)
                    effects.append(Say(ControlMessage(run_round=said)))
                if not self._rounds.advance():
                    break
        except CheatError as found:
            return [*effects, *self._accuse_of_cheat(found)]
        if self._rounds.complete and self._key is None:
            effects += self._confirm(now)
        return effects

    def _confirm(self, now: float) -> Effects:
        try:
            self._key, transcript, confirmation = self._rounds.result(
                self._conference_id, self.run_hash, self.key_epoch
            )
        except Rejected as rejected:
            return self._fail(f"what was meant for us alone is not good: {rejected.cause}")
        self._own = (transcript, confirmation)
        signed = sign_participation(
            self._me,
            Participation(
                conference_id=self._conference_id,
                key_epoch=self.key_epoch,
                run_hash=self.run_hash,
                transcript_hash=transcript,
                confirmation=confirmation,
                time_ms=round(now * 1000),
            ),
        )
        return [Say(ControlMessage(run_confirmation=RunConfirmation(run=self.run, participation=signed)))]

    # ---- confirmations and activation

    def _confirmation(self, index: int, heard: Heard, body: RunConfirmation, now: float) -> Effects:
        said = self._verify(index, body.participation)
        before = self._confirmed.get(index)
        if before is not None:
            same = (before[0].transcript_hash, before[0].confirmation) == (said.transcript_hash, said.confirmation)
            return [] if same else self._accuse(index, "equivocation", [before[2], heard])
        self._confirmed[index] = (said, body.participation, heard)
        if not self._coordinates or len(self._confirmed) < len(self.roster):
            return []
        if any((one.transcript_hash, one.confirmation) != self._own for one, _, _ in self._confirmed.values()):
            return self._differ(now)
        participations = [self._confirmed[place][1] for place in range(len(self.roster))]
        activate = Activate(run=self.run, run_hash=self.run_hash, participations=participations)
        if activate.ByteSize() > BODY_MAX:
            return self._abort(f"{len(self.roster)} participations don't fit into one message")
        # at once, so that nothing that arrives before our own word comes back makes us say `abort` as well
        return [Say(ControlMessage(activate=activate)), *self._established(tuple(participations))]

    def _verify(self, index: int, signed: SignedStatement) -> Participation:
        return verify_participation(signed, self._members[index], self._conference_id, self.key_epoch, self.run_hash)

    def _activated(self, index: int, heard: Heard, body: Activate, _now: float) -> Effects:
        if index != 0:
            raise Rejected("not-coordinator", "activate")
        if self._key is None:
            raise Rejected("activate", "without our participation")
        if len(body.participations) != len(self.roster):
            raise Rejected("activate", "not everybody's participation")
        for place, signed in enumerate(body.participations):
            said = self._verify(place, signed)
            if (said.transcript_hash, said.confirmation) != self._own:
                raise Rejected("activate", "a confirmation of another key")
        return self._established(tuple(body.participations))

    def _established(self, participations: tuple[SignedStatement, ...]) -> Effects:
        assert self._key is not None
        self._over = True
        return [Established(self._key, self.key_epoch, self.run, self.roster, participations)]

    # ---- what goes wrong

    def _differ(self, now: float) -> Effects:
        """Confirmations differ, though every message was good: somebody holds, or pretends, another key."""
        if not self.scheme.promises.openable:
            return self._abort("the confirmations differ")
        abort = Abort(run=self.run, run_hash=self.run_hash, reason="the confirmations differ", open=True)
        self._over = True
        self._opened = {}
        self._deadline_at = now + OPEN_WITHIN
        opening = Opening(run=self.run, secrets=self._rounds.reveal())
        return [Say(ControlMessage(abort=abort)), Say(ControlMessage(opening=opening))]

    def _aborted(self, index: int, _heard: Heard, body: Abort, _now: float) -> Effects:
        if index != 0:
            raise Rejected("not-coordinator", "abort")
        effects: Effects = []
        if body.open and self.scheme.promises.openable:
            effects.append(Say(ControlMessage(opening=Opening(run=self.run, secrets=self._rounds.reveal()))))
        return [*effects, *self._fail(body.reason or "aborted by the Coordinator")]

    def _opening(self, index: int, _heard: Heard, body: Opening, _now: float) -> Effects:
        if self._opened is None:
            return []
        self._opened.setdefault(index, body.secrets)
        return self._judge() if len(self._opened) == len(self.roster) else []

    def _judge(self) -> Effects:
        opened, self._opened = self._opened or {}, None
        cheaters = {self.roster[index]: cause for index, cause in self._rounds.judge(opened).items()}
        if not cheaters:
            wrong = [
                place
                for place, (said, _, _) in self._confirmed.items()
                if said.transcript_hash == self._own[0] and said.confirmation != self._own[1]
            ]  # whose transcript is another may be honest, and another told it and us different things
            cheaters = {self.roster[place]: "wrong-confirmation" for place in wrong}
        silent = tuple(user for index, user in enumerate(self.roster) if index not in opened)
        return [Failed("the confirmations differ", silent, cheaters)]

    def _accuse_of_cheat(self, found: CheatError) -> Effects:
        """The evidence is all that the check looked at."""
        looked_at = [
            said
            for (round_number, index), said in self._rounds.heard.items()
            if round_number < found.round_number or (round_number, index) == (found.round_number, found.index)
        ]
        kind = found.cause if found.cause in ("invalid-element", "wrong-proof") else "invalid-element"
        return self._accuse(found.index, kind, looked_at)

    def _accuse(self, index: int, kind: str, messages: list[Heard]) -> Effects:
        cheater = self.roster[index]
        evidence = [fragment for heard in messages for fragment in _without_chains(heard)]
        accusation = Accusation(run=self.run, cheater=cheater, kind=kind, evidence=evidence)
        effects: Effects = [Count(f"accused.{kind}")]
        if accusation.ByteSize() <= BODY_MAX:  # else it can't be proven, only believed
            effects.append(Say(ControlMessage(accusation=accusation)))
        if self._coordinates:
            return effects + self._abort(f"{cheater} cheated: {kind}", cheaters={cheater: kind})
        return effects + self._fail(f"{cheater} cheated: {kind}", cheaters={cheater: kind})

    def _accused(self, _index: int, _heard: Heard, body: Accusation, _now: float) -> Effects:
        """Evidence that another found; whoever hands it in here has verified it."""
        if not self._coordinates or body.cheater not in self._place:
            return []
        return self._abort(f"{body.cheater} cheated: {body.kind}", cheaters={body.cheater: body.kind})

    def _abort(self, reason: str, *, absent: tuple[str, ...] = (), cheaters: dict[str, str] | None = None) -> Effects:
        abort = Abort(run=self.run, run_hash=self.run_hash, reason=reason)
        return [Say(ControlMessage(abort=abort)), *self._fail(reason, absent=absent, cheaters=cheaters)]

    def _fail(self, reason: str, *, absent: tuple[str, ...] = (), cheaters: dict[str, str] | None = None) -> Effects:
        self._over, self._key = True, None
        return [Failed(reason, absent, cheaters or {})]


def _without_chains(heard: Heard) -> list[Fragment]:
    fragments = []
    for fragment in heard.fragments:
        copy = Fragment()
        copy.CopyFrom(fragment)
        del copy.certificate_chain[:]
        fragments.append(copy)
    return fragments
