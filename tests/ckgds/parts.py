"""A run of a key scheme at all of its participants at once, with real signed messages."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mcsa.ckgds.messages import Established, Failed, Say
from mcsa.ckgds.run import KeyRun
from mcsa.control.fragments import sign_message
from mcsa.control.streams import Delivered
from mcsa.errors import Rejected
from mcsa.identity import Credentials
from mcsa.v1.conference_pb2 import ControlMessage, Participant, RunStart
from tests.world import NOW, World, seeded

CONFERENCE = b"c" * 16
NAMES = ("alice", "bob", "carol", "dave", "erin")
Tamper = Callable[[int, ControlMessage], list[ControlMessage]]


def process_of(index: int) -> bytes:
    return bytes([65 + index]) * 16


@dataclass
class Runs:
    """One `KeyRun` for each participant, and what came of it. `tamper` puts other messages in a participant's mouth."""

    world: World
    ckgds: str
    size: int
    run: int = 1
    key_epoch: int = 100
    seed: int = 1
    conference_id: bytes = CONFERENCE
    tamper: Tamper = lambda _index, message: [message]
    deaf: set[int] = field(default_factory=set)  # nothing is heard of these
    outcome: dict[int, Established | Failed] = field(default_factory=dict)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    said: list[Delivered] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._sequence = [1] * self.size
        self.users = [self.world.user(name) for name in NAMES[: self.size]]
        roster = [
            Participant(
                user=str(user.id),
                certificate_fingerprint=user.identity.fingerprint,
                process_id=process_of(index),
                nonce=bytes([index, self.run % 256]) * 8,
            )
            for index, user in enumerate(self.users)
        ]
        start = RunStart(run=self.run, ckgds=self.ckgds, roster=roster, key_epoch=self.key_epoch)
        self.start = self.delivered(0, ControlMessage(run_start=start))
        self.runs = [self.key_run(index) for index in range(self.size)]
        self.queue: list[tuple[int, Delivered]] = []

    def key_run(self, index: int, start: Delivered | None = None) -> KeyRun:
        return KeyRun(
            self.conference_id,
            start or self.start,
            str(self.users[0].id),
            self.users[index],
            process_of(index),
            seeded(self.seed * 100 + index),
            NOW,
        )

    def delivered(
        self, index: int, message: ControlMessage, process_id: bytes | None = None, user: Credentials | None = None
    ) -> Delivered:
        """A message of a participant, signed."""
        signer = user or self.users[index]
        self._sequence[index] += 1
        raw = message.SerializeToString(deterministic=True)
        process_id = process_id or process_of(index)
        fragments = sign_message(signer, self.conference_id, process_id, self._sequence[index], raw)
        return Delivered(
            str(signer.id),
            process_id,
            self._sequence[index],
            ControlMessage.FromString(raw),
            raw,
            fragments,
            signer.chain[0],
        )

    @property
    def certificates(self) -> dict[str, bytes]:
        return {str(user.id): user.chain[0] for user in self.users}

    def begin(self) -> None:
        for index, run in enumerate(self.runs):
            self.follow(index, run.begin(NOW))

    def follow(self, index: int, effects: list[Any]) -> None:
        """What one run wants: said to all, or kept as its outcome."""
        for effect in effects:
            if isinstance(effect, Say):
                for message in self.tamper(index, effect.message):
                    self.tell(self.delivered(index, message))
            elif isinstance(effect, Established | Failed):
                before = self.outcome.setdefault(index, effect)
                assert before is effect, f"{NAMES[index]} had {before} and then {effect}"

    def tell(self, heard: Delivered) -> None:
        """A message on its way to everybody."""
        self.said.append(heard)
        speaker = [str(user.id) for user in self.users].index(heard.user)
        if speaker not in self.deaf:
            self.queue += [(index, heard) for index in range(self.size)]

    def play(self, shuffle: int | None = None) -> None:
        """Delivers until nothing is under way; messages of one speaker stay in order, as in their stream."""
        chance = random.Random(shuffle)
        while self.queue:
            place = 0 if shuffle is None else chance.randrange(len(self.queue))
            index, heard = self.queue[place]
            place = next(i for i, (to, one) in enumerate(self.queue) if to == index and one.user == heard.user)
            index, heard = self.queue.pop(place)
            self.hear(index, heard)

    def hear(self, index: int, heard: Delivered) -> None:
        try:
            self.follow(index, self.runs[index].message_arrived(heard, NOW))
        except Rejected as rejected:
            self.rejected.append((index, rejected.cause))

    def wait(self) -> None:
        """Until every run's time is over."""
        for index, run in enumerate(self.runs):  # the Coordinator's is over first
            at = run.wake_at()
            if at is not None:
                self.follow(index, run.due(at))
            self.play()

    def established(self) -> list[Established]:
        return [outcome for outcome in self.outcome.values() if isinstance(outcome, Established)]

    def failed(self, index: int) -> Failed:
        outcome = self.outcome[index]
        assert isinstance(outcome, Failed), outcome
        return outcome
