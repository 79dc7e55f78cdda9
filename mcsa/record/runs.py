"""The runs of a record: which keys they made, who signed to hold them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from mcsa.ckgds.participation import run_hash_of
from mcsa.errors import Rejected
from mcsa.record.activation import Run, check_start, verify_activation
from mcsa.record.findings import Key, Noted, Participated, SignedEpoch
from mcsa.record.messages import Said
from mcsa.trust import Trust
from mcsa.v1.conference_pb2 import Abort, Activate, RunRound


@dataclass(slots=True)
class Proven:
    """What the runs prove. `unproven`: runs that were activated, and of which messages are missing here."""

    keys: list[Key] = field(default_factory=list)
    unproven: list[int] = field(default_factory=list)
    irregular: list[Noted] = field(default_factory=list)
    epochs: dict[tuple[str, bytes], list[SignedEpoch]] = field(default_factory=dict)

    @property
    def participants(self) -> tuple[Participated, ...]:
        """By user and certificate, in the order of rosters."""
        return tuple(Participated(user, leaf, tuple(signed)) for (user, leaf), signed in self.epochs.items())


class Runs:
    """Collects the messages of runs; they are set against each other at the end, since streams overtake each other.
    RunStart, Activate and Abort are in one stream, the Coordinator's, and so in order."""

    def __init__(self, conference_id: bytes, coordinator: str, trust: Trust) -> None:
        self._conference_id = conference_id
        self._coordinator = coordinator
        self._trust = trust
        self._starts: dict[bytes, tuple[Said, frozenset[str]]] = {}
        self._rounds: defaultdict[bytes, list[Said]] = defaultdict(list)
        self._aborted: set[bytes] = set()
        self._activates: list[tuple[Said, Activate, bool]] = []

    def started(self, said: Said, ejected: frozenset[str]) -> None:
        """A RunStart of the Coordinator, and who was thrown out before it."""
        self._starts.setdefault(run_hash_of(said.raw), (said, ejected))

    def heard(self, said: Said, body: RunRound) -> None:
        """A round, of whomever."""
        self._rounds[body.run_hash].append(said)

    def aborted(self, _said: Said, abort: Abort) -> None:
        """An Abort of the Coordinator, which excludes an Activate."""
        self._aborted.add(abort.run_hash)

    def activated(self, said: Said, activate: Activate) -> None:
        """An Activate of the Coordinator."""
        self._activates.append((said, activate, activate.run_hash in self._aborted))

    def start_of(self, run: int) -> Said | None:
        """The first RunStart with this number."""
        starts = (said for said, _ in self._starts.values())
        return next((said for said in starts if said.message.run_start.run == run), None)

    def verify(self, *, may_lack: bool, strict: bool) -> Proven:
        """All Activates. `may_lack`: the record is not whole, so that what is missing of a run leaves it unproven.
        A wrong Activate raises `Rejected("run")` where `strict`; otherwise it is noted, and proves nothing.
        """
        proven = Proven()
        for said, activate, was_aborted in self._activates:
            try:
                self._verify_one(said, activate, was_aborted, proven)
            except Rejected as rejected:
                if may_lack and rejected.cause in ("unknown-run", "transcript"):
                    proven.unproven.append(activate.run)
                elif strict:
                    sentence = f"entry {said.entry}: the Activate of run {activate.run}: {rejected.detail}"
                    raise Rejected("run", sentence) from None
                else:
                    proven.irregular.append(
                        Noted(said.entry, said.user, f"an Activate that proves nothing: {rejected}")
                    )
        return proven

    def _verify_one(self, said: Said, activate: Activate, was_aborted: bool, proven: Proven) -> None:
        if was_aborted:
            raise Rejected("run", "the run was aborted before")
        if activate.run_hash not in self._starts:
            raise Rejected("unknown-run", "no RunStart of this record has this hash")
        opening, ejected = self._starts[activate.run_hash]
        start = opening.message.run_start
        check_start(start, self._coordinator, ejected)
        if proven.keys and start.key_epoch <= proven.keys[-1].key_epoch:
            raise Rejected("run", f"key epoch {start.key_epoch} follows key epoch {proven.keys[-1].key_epoch}")
        run = Run(start, activate.run_hash, self._rounds[activate.run_hash])
        statements = verify_activation(said, activate, run, self._conference_id, self._trust)
        for participant, statement in zip(start.roster, statements, strict=True):
            signed = SignedEpoch(start.key_epoch, statement.time_ms / 1000)
            proven.epochs.setdefault((participant.user, participant.certificate_fingerprint), []).append(signed)
        users = tuple(participant.user for participant in start.roster)
        proven.keys.append(Key(said.entry, start.run, start.key_epoch, start.ckgds, users))
