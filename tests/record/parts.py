"""A small conference with real keys and signatures, and its record as one of its participants writes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mcsa.ckgds.interface import scheme_named
from mcsa.ckgds.participation import run_hash_of, sign_participation, transcript_hash_of
from mcsa.conference_id import CONFERENCE_LABEL, conference_id_of
from mcsa.control.fragments import body_room, sign_fragment, sign_message
from mcsa.identity import Credentials
from mcsa.record.chain import COUNTERSIGNATURE, head_of
from mcsa.record.writer import RecordWriter
from mcsa.statements import COUNTERSIGNATURE_LABEL, EVICTION_LABEL
from mcsa.v1 import conference_pb2 as wire
from mcsa.v1.authorizer_pb2 import Countersignature, Eviction
from mcsa.v1.types_pb2 import ConferenceDescription, GroupDescription, SignedStatement
from tests.world import World


class Speaker:
    """A user's process in a conference: signs its stream."""

    def __init__(self, user: Credentials, conference_id: bytes) -> None:
        self.user = user
        self.name = str(user.id)
        self.conference_id = conference_id
        self.process_id = hashlib.sha256(self.name.encode()).digest()[:16]
        self.last = 0

    def sign(self, **body: Any) -> tuple[wire.Fragment, ...]:
        """The next message of its stream."""
        self.last += 1
        raw = wire.ControlMessage(**body).SerializeToString(deterministic=True)
        return sign_message(self.user, self.conference_id, self.process_id, self.last, raw)

    def status(self, oldest: int) -> tuple[wire.Fragment, ...]:
        position = wire.StreamPosition(process_id=self.process_id, sequence=self.last)
        message = wire.ControlMessage(status=wire.Status(positions=[position], oldest=oldest))
        assert message.ByteSize() <= body_room(self.user, 0)
        raw = message.SerializeToString(deterministic=True)
        return (sign_fragment(self.user, self.conference_id, self.process_id, 0, 0, 1, raw),)


class Conference:
    """Alice coordinates, bob writes the record. Each step is said, and recorded `seconds` after the one before."""

    def __init__(
        self,
        world: World | None = None,
        writer: str = "bob",
        seconds: float = 1.0,
        abroad: Mapping[str, World] | None = None,
    ) -> None:
        """`abroad`: users that are of another domain than the conference."""
        self.world = world or World()
        self._abroad = abroad or {}
        self.now = self.world.now
        self.seconds = seconds
        alice = self.world.user("alice")
        self.description = ConferenceDescription(
            title="board",
            coordinator=str(alice.id),
            groups=[GroupDescription(name="control", port=7000)],
            authorizer=str(self.world.authorizer.id),
            nonce=bytes(16),
        )
        self.statement = alice.sign_statement(CONFERENCE_LABEL, self.description.SerializeToString())
        self.id = conference_id_of(str(alice.id), self.statement.statement)
        self.speakers: dict[str, Speaker] = {}
        self.writer = RecordWriter(self.id, str(self.user(writer).id))
        self.writer.description(self.statement, self.now)
        self.run = 0
        self.run_hash = b""
        self.rounds: dict[tuple[int, int], bytes] = {}

    def speaker(self, name: str) -> Speaker:
        if name not in self.speakers:
            self.speakers[name] = Speaker(self.user(name), self.id)
        return self.speakers[name]

    def user(self, name: str) -> Credentials:
        return self._abroad.get(name, self.world).user(name)

    def record(self, fragments: Any) -> None:
        self.now += self.seconds
        self.writer.message(fragments, self.now)

    def say(self, name: str, **body: Any) -> tuple[wire.Fragment, ...]:
        fragments = self.speaker(name).sign(**body)
        self.record(fragments)
        return fragments

    def introduce(self, *names: str) -> None:
        for name in names:
            self.say(name, introduction=wire.Introduction(time_ms=round(self.now * 1000)))

    def positions(self) -> list[wire.StreamPosition]:
        speakers = self.speakers.values()
        return [wire.StreamPosition(process_id=one.process_id, sequence=one.last) for one in speakers]

    # ---- steps

    def start_run(self, *names: str, **changes: Any) -> wire.RunStart:
        """The Coordinator starts a run, everybody says its rounds. (The record knows nothing of a scheme's algebra.)"""
        self.run += 1
        roster = [self.participant(name) for name in names]
        fields: dict[str, Any] = {"run": self.run, "ckgds": "bd", "roster": roster, "key_epoch": self.run}
        start = wire.RunStart(**{**fields, **changes})
        self.run_hash = run_hash_of(raw_of(self.say("alice", run_start=start)))
        self.rounds = {}
        for number in range(1, scheme_named("bd").rounds(len(names)) + 1):
            for place, name in enumerate(names):
                self.rounds[number, place] = self.say_round(name, number)
        return start

    def participant(self, name: str) -> wire.Participant:
        speaker = self.speaker(name)
        leaf = speaker.user.identity.fingerprint
        return wire.Participant(
            user=speaker.name, certificate_fingerprint=leaf, process_id=speaker.process_id, nonce=bytes(16)
        )

    def say_round(self, name: str, number: int, payload: bytes = b"element") -> bytes:
        said = wire.RunRound(run=self.run, run_hash=self.run_hash, round=number, payload=payload)
        return raw_of(self.say(name, run_round=said))

    def participation(self, name: str, start: wire.RunStart, **changes: Any) -> SignedStatement:
        fields: dict[str, Any] = {
            "conference_id": self.id,
            "key_epoch": start.key_epoch,
            "run_hash": self.run_hash,
            "transcript_hash": transcript_hash_of(self.rounds),
            "confirmation": b"c" * 32,
            "time_ms": round(self.now * 1000),
        }
        return sign_participation(self.speaker(name).user, wire.Participation(**{**fields, **changes}))

    def activate(self, start: wire.RunStart, participations: list[SignedStatement], **changes: Any) -> None:
        fields: dict[str, Any] = {"run": start.run, "run_hash": self.run_hash, "participations": participations}
        self.say("alice", activate=wire.Activate(**{**fields, **changes}))

    def key(self, *names: str) -> wire.RunStart:
        """A whole run."""
        start = self.start_run(*names)
        self.activate(start, [self.participation(name, start) for name in names])
        return start

    def seal(self, name: str, text: bytes = b"sealed") -> tuple[wire.Fragment, ...]:
        return self.say(name, sealed=wire.SealedMessage(sframe=text, receipt=True))

    def receipt(self, name: str, of: tuple[wire.Fragment, ...], **changes: Any) -> None:
        fields: dict[str, Any] = {
            "process_id": of[0].process_id,
            "sequence": of[0].sequence,
            "message_hash": hashlib.sha256(raw_of(of)).digest(),
        }
        self.say(name, receipt=wire.Receipt(**{**fields, **changes}))

    def eject(self, name: str, signer: str = "alice", **changes: Any) -> None:
        fields: dict[str, Any] = {"conference_id": self.id, "subject": self.speaker(name).name, "reason": "shouted"}
        statement = Eviction(**{**fields, **changes}).SerializeToString()
        signed = self.user(signer).sign_statement(EVICTION_LABEL, statement)
        self.say("alice", ejection=wire.Ejection(eviction=signed))

    def close(self) -> None:
        self.say("alice", closing=wire.Closing(reason="done", positions=self.positions()))

    def countersign(self, signer: Credentials | None = None, after: float = 1.0, **changes: Any) -> None:
        statement = self.countersignature(self.writer.head, signer, after, **changes)
        self.writer.countersigned(statement, self.now + after)

    def countersignature(
        self, head: bytes, signer: Credentials | None = None, after: float = 1.0, **changes: Any
    ) -> SignedStatement:
        fields: dict[str, Any] = {
            "conference_id": self.id,
            "head": head,
            "time_ms": round((self.now + after) * 1000),
            "host": str(self.world.host("beta").id),
        }
        statement = Countersignature(**{**fields, **changes}).SerializeToString()
        return (signer or self.world.authorizer).sign_statement(COUNTERSIGNATURE_LABEL, statement)


def whole(conference: Conference | None = None) -> Conference:
    """A conference of three with all that a record may hold."""
    one = conference or Conference()
    one.introduce("alice", "bob", "carol")
    one.key("alice", "bob", "carol")
    one.receipt("bob", one.seal("carol"))
    one.seal("bob", b"long " * 800)  # several fragments
    one.say("alice", absence=wire.Absence(user=str(one.world.user("dave").id), run=1))
    one.eject("carol")
    one.key("alice", "bob")
    one.close()
    one.say("bob", departure=wire.Departure(reason="closed", positions=one.positions()))
    one.countersign()
    return one


Change = Callable[[list[wire.RecordEntry]], None]


def rewritten(raw: bytes, change: Change, *, open_: bool = False) -> bytes:
    """The record as a dishonest writer makes it: entries changed at will, numbers and hashes of the chain put right.
    Its countersignature stays as it was, or goes (`open_`)."""
    record = wire.Record.FromString(raw)
    entries = [wire.RecordEntry.FromString(entry) for entry in record.entries]
    change(entries)
    if open_:
        entries = [entry for entry in entries if entry.kind != COUNTERSIGNATURE]
    return rechained(record, entries)


def rechained(record: wire.Record, entries: list[wire.RecordEntry]) -> bytes:
    """The serialised record with these entries, whose numbers and hashes are put right."""
    done: list[bytes] = []
    for number, entry in enumerate(entries, 1):
        entry.number, entry.previous = number, head_of(done)
        done.append(entry.SerializeToString(deterministic=True))
    del record.entries[:]
    record.entries.extend(done)
    return record.SerializeToString(deterministic=True)


def find(entries: list[wire.RecordEntry], body: str, skip: int = 0) -> int:
    """Index of the entry with the (skip + 1)-th message of this kind."""
    found = [
        index for index, entry in enumerate(entries) if entry.fragments and message_in(entry).WhichOneof("body") == body
    ]
    return found[skip]


def message_in(entry: wire.RecordEntry) -> wire.ControlMessage:
    return wire.ControlMessage.FromString(raw_of(entry.fragments))


def raw_of(fragments: Iterable[wire.Fragment]) -> bytes:
    return b"".join(fragment.body for fragment in fragments)
