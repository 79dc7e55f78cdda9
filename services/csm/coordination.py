"""The Coordinator's part (paper, section 3.4, initiator's fifth to seventh steps): whom it calls, and when.

    all expected are there, or the waiting period is over -> call -> responses -> RunStart
    somebody came, left, was thrown out, restarted         -> call anew, while the key in use goes on

Who is there is known twice: by the Authorizer's roster of the control group, and by what the participants say. One
that is in the roster and says nothing is absent: recorded, not waited for again until it is heard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcsa.ckgds.run import Failed
from mcsa.control.fragments import MESSAGE_MAX
from mcsa.control.streams import Delivered
from mcsa.endpoint import Count
from mcsa.errors import Refused
from mcsa.v1.conference_pb2 import Absence, CallResponse, ConferenceCall, ControlMessage, Participant, RunStart
from mcsa.v1.types_pb2 import POLICY_CLASS_OPEN, AccessControl
from services.csm import transitions as life
from services.csm.asking import Effects
from services.csm.keying import NONCE_SIZE
from services.csm.setting import following

if TYPE_CHECKING:
    from services.csm.participant import LocalParticipant

RESPONSE_WITHIN = 3.0  # seconds; a lost call or response is repaired within a few hundred milliseconds
CALLS = 3  # unanswered calls, or failed runs, in a row before the conference fails
MISSED_FOR = 10.0  # seconds that a participant may be missing from the Authorizer's roster
MESSAGE_REST = 256  # bytes of a control message around its body
SETTLE = 0.2  # seconds, so that those who come together are called together


@dataclass(frozen=True, slots=True)
class _Response:
    process_id: bytes
    nonce: bytes
    ckgds: tuple[str, ...]
    fingerprint: bytes


class Coordination:
    """See the module."""

    def __init__(self, participant: LocalParticipant, access: AccessControl) -> None:
        self._participant = participant
        self._access = access
        self._expected: frozenset[str] = frozenset()
        self._present: set[str] = set()
        self.listed: dict[bytes, set[str]] = {}  # by group: its users, those that only send included
        self._silent: set[str] = set()
        self._gone: set[str] = set()
        self._cheaters: dict[str, str] = {}
        self._processes: dict[str, bytes] = {}
        self._keyed: dict[str, bytes] = {}
        self._call: Delivered | None = None
        self._responses: dict[str, _Response] = {}
        self._call_at: float | None = None
        self._gather_until: float | None = None
        self._missed_at: float | None = None
        self._fruitless = 0
        self._attempt = self._run = self._epoch = 0

    def wait_for(self, expected: Collection[str], until: float) -> None:
        """The waiting period: it ends when all of these have come, at the latest at `until`."""
        self._expected = frozenset(expected) - {self._participant.name}
        self._call_at = until

    def allows(self, user: str) -> bool:
        """The list that only Coordinator and Authorizer have: an Authorizer that admits others gains nothing."""
        if user == self._participant.name:
            return True
        if user in self._access.unacceptable_users:
            return False
        terms = self._participant.terms
        is_open = terms.description.policy_class == POLICY_CLASS_OPEN
        return (is_open and user.startswith(terms.own_users)) or user in self._access.acceptable_users

    def check_known(self, user: str) -> None:
        """`Refused` where nobody of that name is there, was, or may come: a name that is mistaken throws nobody out."""
        named = {*self._access.acceptable_users, *self._access.acceptable_senders, *self._participant.ejected}
        listed = set().union(*self.listed.values())
        if user in named | listed | self._keyed.keys():
            return
        there = ", ".join(sorted(listed - {self._participant.name})) or "nobody else"
        sentence = f"there is no {user} in this conference, nor may one join it by name; in it: {there}"
        raise Refused("unknown-user", "participant", f"{sentence}. To keep out whoever comes under that name: ban")

    @property
    def is_alone(self) -> bool:
        """Nobody else has come yet, and nobody was called."""
        return not self._present - {self._participant.name} and self._participant.state == life.ANNOUNCED

    def _wanted(self) -> set[str]:
        """Whom a call is waited for."""
        excluded = self._silent | self._gone | set(self._cheaters) | {self._participant.name}
        return {user for user in self._present - excluded if self._participant.permits(user)}

    # ---- who is there

    def present_changed(self, users: Collection[str], now: float) -> Effects:
        """The roster of the control group has changed: its members."""
        self._gone &= set(users)  # who left and came back has come back
        self._present = set(users)
        return self._consider(now)

    def introduced(self, user: str, process_id: bytes, now: float) -> Effects:
        """A stream has begun: of a newcomer, or of a CSM that restarted."""
        self._processes[user] = process_id
        self._gone.discard(user)
        return self._consider(now)

    def heard(self, heard: Delivered, now: float) -> Effects:
        """Somebody said something: it isn't absent any more."""
        if heard.user not in self._silent:
            return []
        self._silent.discard(heard.user)
        self._participant.absent.discard(heard.user)
        return self._consider(now)

    def departed(self, user: str, now: float) -> Effects:
        """A participant left: the next key is without it."""
        if user == self._participant.name:
            return []
        self._gone.add(user)
        return self._again(now)

    def proven(self, cheater: str, kind: str, now: float) -> Effects:
        """Evidence names a cheater: runs go on without it."""
        if cheater == self._participant.name or cheater in self._cheaters:
            return []
        self._cheaters[cheater] = kind
        return self._again(now)

    def _again(self, now: float) -> Effects:
        """Call anew if who has gone is in the key in use, or in the one that is being made."""
        if self._participant.state in (life.ANNOUNCED, *life.ENDED):
            return []
        self._call_at = min(self._call_at or now + SETTLE, now + SETTLE)
        return []

    def _over(self) -> bool:
        return self._participant.ended or self._participant.ending.under_way

    def _consider(self, now: float) -> Effects:
        state = self._participant.state
        if self._over():
            return []
        if state == life.ANNOUNCED:
            if self._expected and self._expected <= self._wanted():
                self._call_at = now
            return []
        if self._gather_until is not None:
            return self._gathered(now) if self._wanted() <= set(self._responses) else []
        if state == life.ACTIVE:
            self._compare(now)
        return []

    def _compare(self, now: float) -> None:
        """Who came is called soon. Who is missing may be registering anew: its key is replaced if it stays away."""
        members = self._membership()
        if members.items() - self._keyed.items():
            self._call_at = self._call_at or now + SETTLE
        if self._keyed.keys() <= members.keys():
            self._missed_at = None
        elif self._missed_at is None:
            self._missed_at = now + MISSED_FOR

    def _membership(self) -> dict[str, bytes]:
        users = self._wanted() | {self._participant.name}
        return {user: self._processes.get(user, b"") for user in users}

    # ---- call and responses

    def call(self, now: float) -> Effects:
        """The conference-call."""
        participant = self._participant
        if self._over():
            return []
        self._attempt = following(self._attempt, now)
        self._call_at, self._missed_at, self._responses = None, None, {}
        self._gather_until = now + RESPONSE_WITHIN
        self._call = None
        call = ConferenceCall(
            description_hash=participant.terms.hash,
            attempt=self._attempt,
            ckgds=participant.terms.description.ckgds,
            nonce=participant.setting.random(NONCE_SIZE),
            wait_ms=round(RESPONSE_WITHIN * 1000),
        )
        return participant.say(ControlMessage(call=call), now) + self._consider(now)

    def responded(self, heard: Delivered, response: CallResponse, now: float) -> Effects:
        """Somebody asks to take part; only an answer to the newest call counts."""
        if self._gather_until is None or response.attempt != self._attempt or self._call is None:
            return [Count("late.response")]
        if response.call_hash != hashlib.sha256(self._call.raw).digest():
            return [Count("rejected.response.call")]
        if len(response.nonce) != NONCE_SIZE or heard.user in self._cheaters:
            return [Count("rejected.response.nonce")]
        fingerprint = hashlib.sha256(heard.certificate).digest()
        self._responses[heard.user] = _Response(heard.process_id, response.nonce, tuple(response.ckgds), fingerprint)
        self._processes[heard.user] = heard.process_id
        if self._participant.state == life.CALLING:
            self._participant.advance("response")
        return self._consider(now)

    def own_call(self, heard: Delivered) -> None:
        """Our call, as the others get it."""
        self._call = heard

    def _gathered(self, now: float) -> Effects:
        """All have responded, or the time is over."""
        participant = self._participant
        missing = self._wanted() - set(self._responses)
        self._gather_until = None
        if missing and not self._responses and participant.keying.key is None:
            return self._fruitless_attempt("nobody answered the conference-call in the control group", now)
        effects: Effects = []
        for user in sorted(missing):
            self._silent.add(user)
            effects += participant.say(ControlMessage(absence=Absence(user=user)), now)
        return effects + self._start_run(now)

    def _fruitless_attempt(self, reason: str, now: float) -> Effects:
        self._fruitless += 1
        if self._fruitless < CALLS:
            return self.call(now)
        return self._participant.fail(f"{reason}, {CALLS} times: does multicast reach all hosts? (mcsa doctor)", now)

    # ---- the run

    def _start_run(self, now: float) -> Effects:
        participant = self._participant
        responses = {user: self._responses[user] for user in sorted(self._responses) if participant.permits(user)}
        offered = [name for name in participant.terms.description.ckgds if name in participant.setting.floor]
        agreed = [name for name in offered if all(name in response.ckgds for response in responses.values())]
        if not agreed:
            return participant.fail(f"no key scheme that all accept; offered: {', '.join(offered) or 'none'}", now)
        own = Participant(
            user=participant.name,
            certificate_fingerprint=participant.user.identity.fingerprint,
            process_id=participant.process_id,
            nonce=participant.setting.random(NONCE_SIZE),
        )
        others = [
            Participant(
                user=user,
                certificate_fingerprint=response.fingerprint,
                process_id=response.process_id,
                nonce=response.nonce,
            )
            for user, response in responses.items()
        ]
        self._run = following(self._run, now)
        self._epoch = following(max(self._epoch, participant.keying.epoch), now)
        start = RunStart(
            run=self._run,
            ckgds=agreed[0],
            roster=[own, *others],
            key_epoch=self._epoch,
            ejected=sorted(participant.ejected),
            policy_hash=participant.terms.hash,
        )
        if start.ByteSize() > MESSAGE_MAX - MESSAGE_REST:
            return participant.fail(f"{len(start.roster)} participants are more than fit into one message", now)
        self._keyed = {entry.user: entry.process_id for entry in start.roster}
        return participant.say(ControlMessage(run_start=start), now)

    def established(self, now: float) -> Effects:
        """A key is there; somebody may have come or gone meanwhile."""
        self._fruitless = 0
        self._processes[self._participant.name] = self._participant.process_id
        return self._consider(now)

    def run_failed(self, failed: Failed, now: float) -> Effects:
        """Again, without those that cheated or kept silent; a few times."""
        self._cheaters.update(failed.cheaters)
        self._silent |= set(failed.absent) - {self._participant.name}
        return self._fruitless_attempt(f"the key scheme came to no end: {failed.reason}", now)

    # ---- time

    def wake_at(self) -> float | None:
        """When `due` is wanted."""
        times = [at for at in (self._call_at, self._gather_until, self._missed_at) if at is not None]
        return None if self._over() else min(times, default=None)

    def due(self, now: float) -> Effects:
        """A call, or the end of the time for responses."""
        if self._over():
            return []
        if any(at is not None and now >= at for at in (self._call_at, self._missed_at)):
            return self.call(now)
        if self._gather_until is not None and now >= self._gather_until:
            return self._gathered(now)
        return []
