"""One Activate, set against the run that it activates: what each participant signed, recomputed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mcsa.errors import Rejected
from mcsa.record.messages import Said
from mcsa.record.transcript import PARTICIPATION_LABEL, transcript_hash_of
from mcsa.trust import Trust
from mcsa.v1.conference_pb2 import Activate, Participant, Participation, RunStart
from mcsa.v1.types_pb2 import SignedStatement

SIGNED_WITHIN = 600.0  # seconds between a participation's own time and its Activate's entry: repairs, and two clocks
CONFIRMATION_SIZE = 32  # bytes


@dataclass(frozen=True, slots=True)
class Run:
    """A RunStart and the rounds that name its hash, in the record's order."""

    start: RunStart
    hash: bytes
    rounds: Sequence[Said]


def check_start(start: RunStart, coordinator: str, ejected: Collection[str]) -> None:
    """Raises `Rejected("run")` for a roster that no Coordinator should have made."""
    users = [participant.user for participant in start.roster]
    if not users or users[0] != coordinator or len(set(users)) != len(users):
        raise Rejected("run", "the roster does not begin with the Coordinator, or names somebody twice")
    if out := set(users) & set(ejected):
        raise Rejected("run", f"{min(out)}, who was thrown out before, is in the roster")


def verify_activation(
    said: Said, activate: Activate, run: Run, conference_id: bytes, trust: Trust
) -> list[Participation]:
    """What the roster signed, in its order: this conference, run, key epoch and transcript, with one confirmation.

    Raises `Rejected`: what `Trust.open_statement` rejects; "run"; and, last, "transcript": the rounds in this record
    are not those that all signed.
    """
    start = run.start
    if activate.run != start.run or len(activate.participations) != len(start.roster):
        raise Rejected("run", f"{len(activate.participations)} participations for a roster of {len(start.roster)}")
    statements = [
        _verify_participation(signed, participant, said.at, trust)
        for signed, participant in zip(activate.participations, start.roster, strict=True)
    ]
    first = statements[0]
    expected = (conference_id, start.key_epoch, run.hash, first.transcript_hash, first.confirmation)
    for statement in statements:
        about = (statement.conference_id, statement.key_epoch, statement.run_hash)
        if (*about, statement.transcript_hash, statement.confirmation) != expected:
            raise Rejected("run", f"{statement.user} signed another run, transcript or confirmation")
    if len(first.confirmation) != CONFIRMATION_SIZE:
        raise Rejected("run", f"a confirmation is {CONFIRMATION_SIZE} bytes long")
    if first.transcript_hash != transcript_hash_of(run.hash, rounds_in_order(run)):
        raise Rejected("transcript", "the messages of the run in this record are not those that all signed")
    return statements


def rounds_in_order(run: Run) -> list[bytes]:
    """The rounds of the roster's processes, by round, then by place in the roster; of two for one place the first."""
    places = {(participant.user, participant.process_id): index for index, participant in enumerate(run.start.roster)}
    found: dict[tuple[int, int], bytes] = {}
    for said in run.rounds:
        place = places.get((said.user, said.process_id))
        if place is not None:
            found.setdefault((said.message.run_round.round, place), said.raw)
    return [found[key] for key in sorted(found)]


def _verify_participation(signed: SignedStatement, participant: Participant, at: float, trust: Trust) -> Participation:
    identity = trust.open_statement(signed, PARTICIPATION_LABEL, at)
    try:
        statement = Participation.FromString(signed.statement)
    except DecodeError:
        raise Rejected("run", "a participation is malformed") from None
    if str(identity.id) != participant.user or statement.user != participant.user:
        raise Rejected("run", f"{identity.id} signed where {participant.user} has its place")
    if identity.fingerprint != participant.certificate_fingerprint:
        raise Rejected("run", f"{identity.id} signed with another certificate than the roster says")
    if abs(statement.time_ms / 1000 - at) > SIGNED_WITHIN:
        raise Rejected("run", f"{identity.id} signed more than {SIGNED_WITHIN:.0f} s from the entry's time")
    return statement
