"""Accusations: evidence that anybody can verify, also later and offline, and that frames nobody who is honest.

Evidence is what the accused signed itself. Two kinds:

    "equivocation"                    two signed things where an honest participant signs one
    "invalid-element", "wrong-proof"  a signed message that the scheme's own check refuses, with all that it looks at

A message says which earlier ones it answers (`heard_hash`): shown beside others, which somebody signed afterwards, it
proves nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

from google.protobuf.message import DecodeError

from mcsa.ckgds.interface import scheme_named
from mcsa.ckgds.messages import Heard
from mcsa.ckgds.participation import run_hash_of, transcript_hash_of
from mcsa.ckgds.rounds import run_context
from mcsa.control.fragments import check_shape, join, verify_fragment
from mcsa.errors import Refused, Rejected
from mcsa.v1.conference_pb2 import Accusation, ControlMessage, Fragment, Participation

EVIDENCE_MAX = 1_024  # fragments


def verify_accusation(
    accusation: Accusation, conference_id: bytes, start: Heard | None, certificates: Mapping[str, bytes]
) -> None:
    """Raises `Rejected("evidence")` unless the evidence alone shows that the accused cheated.

    `start` is the run's RunStart as it was heard; `certificates` are the leaf certificates (DER) of those in it.
    """
    if not 1 <= len(accusation.evidence) <= EVIDENCE_MAX:
        raise Rejected("evidence", "size")
    for fragment in accusation.evidence:
        if fragment.conference_id != conference_id:
            raise Rejected("evidence", "of another conference")
        _verify(fragment, certificates)
    if accusation.kind == "equivocation":
        _check_equivocation(accusation)
    elif accusation.kind in ("invalid-element", "wrong-proof"):
        _check_message(accusation, conference_id, start)
    else:
        raise Rejected("evidence", f"no evidence can show '{accusation.kind[:40]}'")


def _verify(fragment: Fragment, certificates: Mapping[str, bytes]) -> None:
    certificate = certificates.get(fragment.user)
    if certificate is None:
        raise Rejected("evidence", "of somebody unknown")
    try:
        check_shape(fragment)  # a count that can't be would cost memory
        verify_fragment(fragment, certificate)
    except Rejected as rejected:
        raise Rejected("evidence", f"not signed: {rejected.cause}") from None


# ---- two where there is one


def _check_equivocation(accusation: Accusation) -> None:
    own = [fragment for fragment in accusation.evidence if fragment.user == accusation.cheater]
    if _contradict(_place_in_stream(fragment) for fragment in own if fragment.sequence):  # Status has no place
        return
    if _contradict(place for message in _messages(own) for place in _places(message)):
        return
    raise Rejected("evidence", "the two say the same, or are of different places")


def _contradict(places: Iterable[tuple[Hashable, object]]) -> bool:
    """Whether there are two contents of one place."""
    said: dict[Hashable, object] = {}
    return any(said.setdefault(place, content) != content for place, content in places)


def _place_in_stream(fragment: Fragment) -> tuple[Hashable, object]:
    return (fragment.process_id, fragment.sequence, fragment.index), (fragment.count, fragment.body)


def _places(message: ControlMessage) -> Iterable[tuple[Hashable, object]]:
    """What an honest participant says once: where, and what."""
    kind = message.WhichOneof("body")
    if kind == "run_round":
        said = message.run_round
        yield ("round", said.run, said.run_hash, said.round), said.payload
    elif kind == "run_confirmation":
        participation = _parse_participation(message.run_confirmation.participation.statement)
        yield (
            ("confirmation", message.run_confirmation.run, participation.run_hash),
            (participation.transcript_hash, participation.confirmation),
        )
    elif kind in ("activate", "abort"):
        body = getattr(message, kind)
        yield ("end", body.run, body.run_hash), kind


def _parse_participation(statement: bytes) -> Participation:
    try:
        return Participation.FromString(statement)
    except DecodeError:
        raise Rejected("evidence", "malformed") from None


# ---- a message that no honest participant says


def _check_message(accusation: Accusation, conference_id: bytes, start: Heard | None) -> None:
    if start is None:
        raise Rejected("evidence", "of a run that was not heard")
    run_hash = run_hash_of(start.raw)
    body = start.message.run_start
    members = {member.process_id: index for index, member in enumerate(body.roster)}
    roster = [member.user for member in body.roster]
    said: dict[tuple[int, int], bytes] = {}
    raws: dict[tuple[int, int], bytes] = {}
    answered: dict[tuple[int, int], bytes] = {}
    for fragments in _grouped(accusation.evidence):
        message = _parse(fragments)
        index = members.get(fragments[0].process_id, -1)
        if message.run_round.run_hash != run_hash or index < 0 or roster[index] != fragments[0].user:
            raise Rejected("evidence", "of another run")
        place = (message.run_round.round, index)
        if said.setdefault(place, message.run_round.payload) != message.run_round.payload:
            raise Rejected("evidence", "two of one place: that would be equivocation, of somebody")
        raws[place], answered[place] = join(fragments), message.run_round.heard_hash
    if accusation.cheater not in roster:
        raise Rejected("evidence", "against somebody who was not there")
    cheater = roster.index(accusation.cheater)
    for round_number in sorted({place[0] for place in said if place[1] == cheater}):
        if _is_refused(body.ckgds, round_number, cheater, len(roster), run_context(conference_id, run_hash), said):
            before = {place: raw for place, raw in raws.items() if place[0] < round_number}
            if answered[round_number, cheater] != transcript_hash_of(before):
                raise Rejected("evidence", "the accused answered other words than these")
            return
    raise Rejected("evidence", "the message is good")


def _is_refused(
    ckgds: str, round_number: int, index: int, size: int, context: bytes, said: Mapping[tuple[int, int], bytes]
) -> bool:
    try:
        scheme = scheme_named(ckgds)
        if not 1 <= round_number <= scheme.rounds(size) or index not in scheme.speakers(round_number, size):
            raise Rejected("evidence", "of a round in which the accused has nothing to say")
        needed = {(earlier, party) for earlier in range(1, round_number) for party in scheme.speakers(earlier, size)}
        if not needed <= set(said):
            raise Rejected("evidence", "a message that the check looks at is missing")
        known = {place: payload for place, payload in said.items() if place[0] <= round_number}
        try:
            scheme.check(round_number, index, size, context, known)
        except Rejected:
            # what went before must be good, or the wrong one is accused
            return all(_is_good(ckgds, place, size, context, known) for place in needed)
    except Refused:
        raise Rejected("evidence", "of an unknown scheme") from None
    return False


def _is_good(
    ckgds: str, place: tuple[int, int], size: int, context: bytes, said: Mapping[tuple[int, int], bytes]
) -> bool:
    known = {other: payload for other, payload in said.items() if other[0] <= place[0]}
    try:
        scheme_named(ckgds).check(*place, size, context, known)
    except Rejected:
        return False
    return True


def _grouped(evidence: Iterable[Fragment]) -> list[list[Fragment]]:
    groups: defaultdict[tuple[str, bytes, int], list[Fragment]] = defaultdict(list)
    for fragment in evidence:
        groups[fragment.user, fragment.process_id, fragment.sequence].append(fragment)
    return [sorted(group, key=lambda fragment: fragment.index) for group in groups.values()]


def _messages(evidence: Iterable[Fragment]) -> list[ControlMessage]:
    return [_parse(group) for group in _grouped(evidence)]


def _parse(fragments: list[Fragment]) -> ControlMessage:
    if [fragment.index for fragment in fragments] != list(range(fragments[0].count)):
        raise Rejected("evidence", "a message that is not whole")
    try:
        return ControlMessage.FromString(join(fragments))
    except DecodeError:
        raise Rejected("evidence", "malformed") from None
