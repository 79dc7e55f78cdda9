"""One Activate, set against the run that it activates: what each participant signed, recomputed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mcsa.ckgds.interface import scheme_named
from mcsa.ckgds.participation import transcript_hash_of, verify_participation
from mcsa.errors import Refused, Rejected
from mcsa.record.messages import Said
from mcsa.trust import Trust
from mcsa.v1.conference_pb2 import Activate, Participation, RunStart

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

    Raises `Rejected`: what `Trust.verify_chain` and `verify_participation` reject; "run"; and, last, "transcript": the
    rounds in this record are not those that all signed.
    """
    start = run.start
    if activate.run != start.run or len(activate.participations) != len(start.roster):
        raise Rejected("run", f"{len(activate.participations)} participations for a roster of {len(start.roster)}")
    statements: list[Participation] = []
    for signed, participant in zip(activate.participations, start.roster, strict=True):
        try:
            trust.verify_chain(signed.certificate_chain, said.at, ("user",), peers=True)
            statement = verify_participation(signed, participant, conference_id, start.key_epoch, run.hash)
        except Rejected as rejected:
            raise Rejected("run", f"the participation of {participant.user}: {rejected}") from None
        if abs(statement.time_ms / 1000 - said.at) > SIGNED_WITHIN:
            raise Rejected("run", f"{participant.user} signed more than {SIGNED_WITHIN:.0f} s from the entry's time")
        statements.append(statement)
    if len({(statement.transcript_hash, statement.confirmation) for statement in statements}) != 1:
        raise Rejected("run", "the participants signed different transcripts or confirmations")
    if len(statements[0].confirmation) != CONFIRMATION_SIZE:
        raise Rejected("run", f"a confirmation is {CONFIRMATION_SIZE} bytes long")
    if statements[0].transcript_hash != transcript_hash_of(messages_of(run)):
        raise Rejected("transcript", "the messages of the run in this record are not those that all signed")
    return statements


def messages_of(run: Run) -> dict[tuple[int, int], bytes]:
    """The serialised messages of a run, by (round, place in the roster); of two for one place the first.
    `Rejected("run")` where nobody knows the scheme any more."""
    try:
        scheme = scheme_named(run.start.ckgds)
    except Refused as refused:
        raise Rejected("run", refused.sentence) from None
    size = len(run.start.roster)
    places = {(member.user, member.process_id): index for index, member in enumerate(run.start.roster)}
    found: dict[tuple[int, int], bytes] = {}
    for said in run.rounds:
        number, index = said.message.run_round.round, places.get((said.user, said.process_id))
        spoken = index is not None and 1 <= number <= scheme.rounds(size) and index in scheme.speakers(number, size)
        if index is not None and spoken and said.message.run_round.run == run.start.run:
            found.setdefault((number, index), said.raw)
    return found
