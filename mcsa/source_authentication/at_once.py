"""What both halves have in common in modes that hold nothing back: neither what is said, nor what is heard."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from mcsa.esp.relayed import Origin
from mcsa.source_authentication.interface import Block, Claim, Content, Verdict


class SentAtOnce:
    """A sender that waits for nothing."""

    def unready(self, now: float) -> str:
        """It is ready."""
        return ""

    def take(self, contents: Sequence[Content], now: float) -> list[Block]:
        """All of it."""
        return [Block(contents)]

    def wake_at(self) -> float | None:
        """Never."""
        return None

    def woken(self, now: float) -> list[Block]:
        """Nothing."""
        return []


class AtOnce(ABC):
    """A receiver that tells of each packet as it comes, by `prove`."""

    @abstractmethod
    def prove(self, origin: Origin, source_port: int, destination_port: int, raw: bytes) -> bytes | str:
        """See `interface.Prover`."""

    def prove_all(
        self, first: Origin, source_port: int, destination_port: int, raws: Sequence[bytes]
    ) -> Sequence[bytes | str]:
        """The same of packets with one header whose numbers follow one another; `first` is the first one's."""
        sender_id, epoch, sequence = first
        prove = self.prove
        return [
            prove(Origin(sender_id, epoch, number), source_port, destination_port, raw)
            for number, raw in enumerate(raws, sequence)
        ]

    def receive(self, claim: Claim, now: float) -> list[Verdict]:
        """Its verdict."""
        found = self.prove(claim.origin, claim.source_port, claim.destination_port, claim.payload)
        return [Verdict(claim, cause=found) if isinstance(found, str) else Verdict(claim, found)]

    def woken(self, now: float) -> list[Verdict]:
        """Nothing waits."""
        return []

    def close(self) -> None:  # noqa: B027 - most modes keep nothing
        """Nothing to forget."""
