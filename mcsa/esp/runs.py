"""What a batch gave: runs of payloads that are alike, and why the rest was dropped."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcsa.esp.inner import PORTS, PORTS_AND_LENGTH, UDP_HEADER_SIZE, alike_payloads, payload_end
from mcsa.esp.slab import Layout


@dataclass(slots=True)
class Run:
    """Payloads of one sender with the same inner header, whose sequence numbers follow one another."""

    sender_id: int
    epoch: int
    first_sequence: int
    source_port: int
    destination_port: int
    payloads: list[bytes]


@dataclass(slots=True)
class OpenedBatch:
    """What a batch gave. `early` are whole packets of an epoch that isn't installed, of a known sender and source."""

    runs: list[Run] = field(default_factory=list)
    early: list[bytes] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)  # a cause for each packet dropped, the early ones too

    def reject(self, cause: str, packet: memoryview) -> None:
        """Counts a packet, and keeps a copy of one that is early."""
        self.rejected.append(cause)
        if cause == "unknown-epoch":
            self.early.append(bytes(packet))


def take_runs(
    sender_id: int, epoch: int, sequence: int, layout: Layout, start: int, end: int, batch: OpenedBatch
) -> None:
    """What is inside packets that have opened, the first with number `sequence`; the malformed are rejected."""
    alike = alike_payloads(layout, start, end)
    if alike is not None:
        source_port, destination_port = PORTS.unpack_from(layout.plaintexts[start])
        batch.runs.append(Run(sender_id, epoch, sequence, source_port, destination_port, alike))
        return
    following, inner = 0, b""
    for number, view in enumerate(layout.plaintexts[start:end], sequence):
        plaintext = bytes(view)
        payload_ends = payload_end(plaintext)
        if not payload_ends:
            batch.rejected.append("inner")
            continue
        payload = plaintext[UDP_HEADER_SIZE:payload_ends]
        if number == following and plaintext[:PORTS_AND_LENGTH] == inner:
            batch.runs[-1].payloads.append(payload)
        else:
            source_port, destination_port = PORTS.unpack_from(plaintext)
            batch.runs.append(Run(sender_id, epoch, number, source_port, destination_port, [payload]))
        following, inner = number + 1, plaintext[:PORTS_AND_LENGTH]
