"""What a group's packet path gives to the applications, and to a relaying agent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, overload

from mcsa.esp.inbound import Run
from mcsa.esp.relayed import Origin


class Received(NamedTuple):
    """Plaintext for the applications, and by which numbers of its origin it is known in the whole group."""

    sender_id: int  # of who said it, by whatever relaying agent it came
    source_port: int
    destination_port: int
    payload: bytes
    epoch: int
    sequence: int
    relay: int | None = None  # the sender ID of the relaying agent that it came by
    authenticated: bytes = b""  # the payload with what authenticates its source, where the group's policy does
    is_heard: bool = True  # for the applications; else only to be carried on, since its proof is still to come
    is_carried: bool = True  # to be carried on by a relaying agent; else that was done before its proof came

    @property
    def origin(self) -> Origin:
        """As the header that agents write says it."""
        return Origin(self.sender_id, self.epoch, self.sequence)

    @property
    def carried(self) -> bytes:
        """What an agent carries on: as the origin sealed it."""
        return self.authenticated or self.payload


class ReceivedRun(Sequence[Received]):
    """Packets of one sender with one inner header, that came together and by no agent; nor with proofs to carry on.

    A `Received` is made only for who looks at one: at full speed making them costs as much as half the decryption.
    """

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def payloads(self) -> Sequence[bytes]:
        """In their order."""
        return self.run.payloads

    def __len__(self) -> int:
        return len(self.run.payloads)

    @overload
    def __getitem__(self, place: int) -> Received: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Received]: ...
    def __getitem__(self, place: int | slice) -> Received | Sequence[Received]:
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(len(self)))]
        run, payload = self.run, self.run.payloads[place]
        sequence = run.first_sequence + (place if place >= 0 else place + len(self))
        return Received(run.sender_id, run.source_port, run.destination_port, payload, run.epoch, sequence)


class Together(NamedTuple):
    """Payloads of one sender with one inner header, that came by one agent or by none; the first says all but them."""

    first: Received
    payloads: Sequence[bytes]


def together(found: Sequence[Received]) -> Iterator[Together]:
    """What belongs together, in its order."""
    if isinstance(found, ReceivedRun):
        yield Together(found[0], found.payloads)
        return
    for _, packets in groupby(found, _stream):
        alike = list(packets)
        yield Together(alike[0], [packet.payload for packet in alike])


_stream = attrgetter("sender_id", "source_port", "destination_port", "relay")
