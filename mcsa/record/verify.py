"""Verifies a record offline: from nothing but its bytes and the domain's trust anchors, months later.

Two kinds of wrong are kept apart. What only the writer of the record can have done (an entry altered, left out, put
elsewhere) makes the record worthless: `Rejected`. What a participant signed although it should not have (a Closing by
somebody who is not the Coordinator) any honest writer has in its record too: it is noted, and counts for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.message import DecodeError

from mcsa.ckgds.evidence import verify_accusation
from mcsa.errors import Rejected
from mcsa.record.chain import DESCRIPTION, MESSAGE, Chained, parse_record
from mcsa.record.completeness import Ends
from mcsa.record.description import verify_countersignature, verify_description
from mcsa.record.findings import Findings, Noted
from mcsa.record.messages import Said, Streams
from mcsa.record.receipts import match_receipts
from mcsa.record.runs import Runs
from mcsa.statements import EVICTION_LABEL
from mcsa.trust import Trust
from mcsa.v1.authorizer_pb2 import Countersignature, Eviction
from mcsa.v1.conference_pb2 import Absence, Closing, Departure, Ejection, RunStart

COORDINATORS_ONLY = frozenset({"call", "run_start", "activate", "abort", "ejection", "closing", "absence"})


def verify_record(raw: bytes, trust: Trust, *, strict: bool = True) -> Findings:
    """What a serialised `Record` proves. Certificates have to be valid at the time of their entry, not now; `trust`
    should know no revocation list, which would also refuse what was signed before the revocation.

    A record without its countersignature, still open or cut off, verifies as far as it goes, and `Findings` says so.
    With it, and `strict`, a record that is not whole is `Rejected("incomplete")`. An honest writer's can be such: it
    came when others had left, or its conference failed. Without `strict` what is missing is in `Findings.missing`.

    Raises `Rejected` with a sentence that names the entry. Causes: those of `parse_record`, `Streams.take`,
    `verify_description`, `verify_countersignature`, `Runs.verify`, and "place" (an entry of this kind can't stand
    there), "ejected" (a message of a user after its ejection), "ejection" (not the Coordinator's), "writer" (its own
    messages are not there), "incomplete".
    """
    chained = parse_record(raw)
    if not chained.entries:
        raise Rejected("place", "the record is empty")
    reading = _Reading(chained, trust, strict=strict)
    for number, entry in enumerate(chained.entries[1:], 2):
        with _at_entry(number):
            if reading.countersignature is not None or entry.kind == DESCRIPTION:
                raise Rejected("place", f"a {entry.kind} can't stand here")
            if entry.kind == MESSAGE:
                reading.message(number)
            else:
                reading.countersigned(number)
    return reading.findings()


class _Reading:
    """A record as far as it was read."""

    def __init__(self, chained: Chained, trust: Trust, *, strict: bool) -> None:
        self._chained = chained
        self._trust = trust
        self._strict = strict
        first = chained.entries[0]
        with _at_entry(1):
            if first.kind != DESCRIPTION:
                raise Rejected("place", "the Coordinator's description has to stand here")
            self._description = verify_description(first, chained.conference_id, trust)
        self._streams = Streams(chained.conference_id, trust)
        self._runs = Runs(chained.conference_id, self._description.coordinator, trust)
        self._ends = Ends()
        self._said: list[Said] = []
        self._ejected: dict[str, Noted] = {}
        self._accusations: list[Said] = []
        self._absent: list[Noted] = []
        self._departed: list[Noted] = []
        self._irregular: list[Noted] = []
        self._last_ms = first.time_ms
        self.countersignature: Countersignature | None = None
        self.countersigned_by = ""
        self._handlers: dict[str, Callable[[Said, Any], None]] = {
            "run_start": self._run_started,
            "run_round": self._runs.heard,
            "activate": self._runs.activated,
            "abort": self._runs.aborted,
            "ejection": self._eject,
            "accusation": lambda said, _accusation: self._accusations.append(said),
            "absence": self._miss,
            "departure": self._depart,
            "closing": self._close,
        }

    # ---- entries

    def message(self, number: int) -> None:
        """An entry with a control message."""
        entry = self._chained.entries[number - 1]
        said = self._streams.take(number, entry.time_ms / 1000, entry.fragments)
        self._last_ms = entry.time_ms
        user = entry.fragments[0].user
        if user in self._ejected:
            raise Rejected("ejected", f"{user} was thrown out at entry {self._ejected[user].entry}")
        if said is None:
            return
        self._said.append(said)
        body = said.message.WhichOneof("body") or ""
        if body in COORDINATORS_ONLY and said.user != self._description.coordinator:
            self._note(said, f"said '{body}', which only the Coordinator can say")
        elif body in self._handlers:
            self._handlers[body](said, getattr(said.message, body))

    def countersigned(self, number: int) -> None:
        """The last entry."""
        entry = self._chained.entries[number - 1]
        conference_id, authorizer = self._chained.conference_id, self._description.authorizer
        writer = self._chained.user
        signed = verify_countersignature(entry, conference_id, authorizer, writer, self._last_ms, self._trust)
        self.countersignature, self.countersigned_by = signed

    # ---- what is said

    def _run_started(self, said: Said, _start: RunStart) -> None:
        self._runs.started(said, frozenset(self._ejected))

    def _eject(self, said: Said, ejection: Ejection) -> None:
        try:
            eviction = self._open_eviction(ejection, said.at)
        except Rejected as rejected:
            if self._strict:
                raise Rejected("ejection", f"the ejection is not the Coordinator's: {rejected}") from None
            self._note(said, f"an ejection that counts for nothing: {rejected}")
            return
        self._ejected.setdefault(eviction.subject, Noted(said.entry, eviction.subject, eviction.reason))
        if eviction.subject == self._chained.user:
            self._ends.end("ejection")

    def _open_eviction(self, ejection: Ejection, at: float) -> Eviction:
        signer = self._trust.open_statement(ejection.eviction, EVICTION_LABEL, at, peers=True)
        try:
            eviction = Eviction.FromString(ejection.eviction.statement)
        except DecodeError:
            raise Rejected("malformed") from None
        if str(signer.id) != self._description.coordinator:
            raise Rejected("signer", str(signer.id))
        if eviction.conference_id != self._chained.conference_id:
            raise Rejected("conference", "it is of another one")
        return eviction

    def _miss(self, said: Said, absence: Absence) -> None:
        self._absent.append(Noted(said.entry, absence.user, f"in run {absence.run}" if absence.run else ""))

    def _depart(self, said: Said, departure: Departure) -> None:
        self._departed.append(Noted(said.entry, said.user, departure.reason))
        if said.user == self._chained.user:
            self._ends.end("departure", departure.positions)

    def _close(self, _said: Said, closing: Closing) -> None:
        self._ends.end("closing", closing.positions)

    def _judge(self) -> list[Noted]:
        """The accusations, once all certificates are known."""
        leaves = {str(one.identity.id): one.identity.chain[0] for one in self._streams.by_process.values()}
        cheaters = []
        for said in self._accusations:
            accusation = said.message.accusation
            try:
                start = self._runs.start_of(accusation.run)
                verify_accusation(accusation, self._chained.conference_id, start, leaves)
            except Rejected as rejected:
                self._note(said, f"an accusation of {accusation.cheater[:80]} that proves nothing: {rejected}")
            else:
                cheaters.append(Noted(said.entry, accusation.cheater, accusation.kind))
        return cheaters

    def _note(self, said: Said, sentence: str) -> None:
        self._irregular.append(Noted(said.entry, said.user, sentence))

    # ---- the end

    def findings(self) -> Findings:
        """After the last entry."""
        counted = self.countersignature
        if counted is not None and not any(said.user == self._chained.user for said in self._said):
            raise Rejected("writer", f"the record has no message of {self._chained.user}, whose it says it is")
        lacking = self._ends.look_for_lacking(self._streams.by_process, self._ejected)
        if counted is not None and self._strict and lacking.unexcused:
            raise Rejected("incomplete", f"the record is not whole, it lacks {'; '.join(lacking.unexcused[:5])}")
        missing = lacking.excused + lacking.unexcused
        proven = self._runs.verify(may_lack=counted is None or bool(missing), strict=self._strict)
        receipts, wrong = match_receipts(self._said)
        cheaters = self._judge()
        entries, description = self._chained.entries, self._description
        return Findings(
            conference_id=self._chained.conference_id,
            title=description.title,
            coordinator=description.coordinator,
            authorizer=description.authorizer,
            writer=self._chained.user,
            began_at=entries[0].time_ms / 1000,
            last_at=self._last_ms / 1000,
            entries=len(entries),
            head=self._chained.head,
            participants=proven.participants,
            keys=tuple(proven.keys),
            unproven_runs=tuple(proven.unproven),
            ejected=tuple(self._ejected.values()),
            cheaters=tuple(cheaters),
            absent=tuple(self._absent),
            departed=tuple(self._departed),
            messages=Counter(said.user for said in self._said),
            sealed=Counter(said.user for said in self._said if said.message.HasField("sealed")),
            receipts=receipts,
            irregular=tuple(sorted([*self._irregular, *proven.irregular, *wrong], key=lambda noted: noted.entry)),
            missing=missing,
            ended_by=self._ends.by,
            countersigned=counted is not None,
            countersigned_at=0.0 if counted is None else counted.time_ms / 1000,
            countersigned_for="" if counted is None else counted.host,
            countersigned_by=self.countersigned_by,
        )


@contextmanager
def _at_entry(number: int) -> Iterator[None]:
    """Says in each rejection where it was."""
    try:
        yield
    except Rejected as rejected:
        raise Rejected(rejected.cause, f"entry {number}: {rejected.detail or rejected.cause}") from None
