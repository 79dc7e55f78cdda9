"""The rounds of one run: messages kept until their round has come, checked, fed to the scheme in order."""

from __future__ import annotations

import hashlib
import hmac

from mcsa.ckgds.interface import Scheme
from mcsa.ckgds.messages import Heard
from mcsa.ckgds.participation import transcript_hash_of
from mcsa.encoding import encode_parts
from mcsa.errors import Rejected
from mcsa.keys import ConferenceKey, Random, Secret

CONTEXT_LABEL = "mcsa run v1"
KEY_LABEL = "mcsa conference key v1"
CONFIRMATION_LABEL = "mcsa confirmation key v1"


class ConfirmationKey(Secret):
    """Makes the confirmation; derived beside the conference key, so that the confirmation tells nothing of it."""


class CheatError(Exception):
    """A party said what no honest one could have said."""

    def __init__(self, round_number: int, index: int, cause: str) -> None:
        super().__init__(round_number, index, cause)
        self.round_number, self.index, self.cause = round_number, index, cause


def run_context(conference_id: bytes, run_hash: bytes) -> bytes:
    """What is bound into every proof of a run."""
    return encode_parts(CONTEXT_LABEL, conference_id, run_hash)


class Rounds:
    """One party's view. `number` is the round under way, from 1; past the last when all have been heard."""

    def __init__(self, scheme: Scheme, index: int, size: int, context: bytes, random: Random) -> None:
        self._scheme = scheme
        self._index, self._size, self._context = index, size, context
        self._party = scheme.start(index, size, context, random)
        self.last = scheme.rounds(size)
        self.number = 1
        self.heard: dict[tuple[int, int], Heard] = {}
        self._spoken = 0

    @property
    def complete(self) -> bool:
        """True when every message of every round is there and good."""
        return self.number > self.last

    def speak(self) -> tuple[int, bytes] | None:
        """What we are to say now, once per round; None where nothing."""
        if self.complete or self._spoken >= self.number:
            return None
        self._spoken = self.number
        if self._index not in self._scheme.speakers(self.number, self._size):
            return None
        return self.number, self._party.speak(self.number)

    def take(self, round_number: int, index: int, heard: Heard) -> None:
        """A message, of this round or a later one; `Rejected("not-a-speaker")`."""
        if not self.number <= round_number <= self.last:
            raise Rejected("wrong-round", str(round_number))
        if index not in self._scheme.speakers(round_number, self._size):
            raise Rejected("not-a-speaker", str(round_number))
        self.heard[round_number, index] = heard

    def advance(self) -> bool:
        """Ends the round where all of its messages are there; raises `CheatError`."""
        if self.complete or self.silent():
            return False
        payloads = {
            place: said.message.run_round.payload for place, said in self.heard.items() if place[0] <= self.number
        }
        speakers = sorted(self._scheme.speakers(self.number, self._size))
        for index in speakers:
            try:
                self._scheme.check(self.number, index, self._size, self._context, payloads)
            except Rejected as rejected:
                raise CheatError(self.number, index, rejected.cause) from None
        for index in speakers:
            if index != self._index:
                self._party.hear(self.number, index, payloads[self.number, index])
        self.number += 1
        return True

    def silent(self) -> list[int]:
        """Who is still to speak in this round."""
        if self.complete:
            return []
        speakers = sorted(self._scheme.speakers(self.number, self._size))
        return [index for index in speakers if (self.number, index) not in self.heard]

    def result(self, conference_id: bytes, run_hash: bytes, key_epoch: int) -> tuple[ConferenceKey, bytes, bytes]:
        """Key, transcript hash and confirmation; `Rejected` as `Party.secret`."""
        transcript = transcript_hash_of({place: said.raw for place, said in self.heard.items()})
        secret = self._party.secret()
        binding = (conference_id, key_epoch, self._scheme.name, transcript)
        key = ConferenceKey.extract(secret, run_hash, KEY_LABEL, *binding)
        confirming = ConfirmationKey.extract(secret, run_hash, CONFIRMATION_LABEL, *binding)
        confirmation = hmac.new(confirming.reveal(), run_hash + transcript, hashlib.sha256).digest()
        return key, transcript, confirmation

    def heard_before(self, round_number: int) -> bytes:
        """Transcript hash of the rounds before that one, as we have heard them; 32 bytes."""
        return transcript_hash_of({place: said.raw for place, said in self.heard.items() if place[0] < round_number})

    def reveal(self) -> bytes:
        """The secrets of this run."""
        return self._party.reveal()

    def judge(self, opened: dict[int, bytes]) -> dict[int, str]:
        """Who cheated, as the opened secrets show."""
        payloads = {place: said.message.run_round.payload for place, said in self.heard.items()}
        return self._scheme.judge(self._size, self._context, payloads, opened)
