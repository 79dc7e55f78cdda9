"""What a store of logs gives and refuses. `mcsa.shell.stream` is one, over JetStream."""

from __future__ import annotations

from dataclasses import dataclass

from mcsa.errors import Refused


@dataclass(frozen=True, slots=True)
class Stored:
    """A record where it is stored. Sequences rise, with gaps: other logs are in between."""

    sequence: int
    raw: bytes


class Conflict(Refused):
    """The log does not end where the appender thought. `rule` is "appended": another replica has written there; read
    on before deciding again. Or "rolled-back": the store has lost what it had acknowledged."""

    def __init__(self, log: str, expected: int, found: int) -> None:
        back = found < expected
        what = "the store has gone back to an older state" if back else "another replica has written to it"
        sentence = f"The log {log} does not end at {expected}, but has a record at {found}: {what}."
        super().__init__("log-conflict", "rolled-back" if back else "appended", sentence)
        self.found = found
