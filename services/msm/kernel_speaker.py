"""What the local socket of a group says, where the kernel's IPsec seals it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mcsa.shell.opened_packets import OpenedPackets
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.v1.types_pb2 import GroupDescription


class KernelSpeaker:
    """Sends plain datagrams to the group, by `packets`, which the kernel seals or, by its policy, refuses."""

    def __init__(self, group: GroupDescription) -> None:
        self.group = group
        self.counted: Counter[str] = Counter()
        self.packets: OpenedPackets | None = None  # while there is no network

    def say(self, payloads: Sequence[bytes], source_port: int, destination_port: int) -> None:
        """From any thread. Not to the port where members believe the Authorizer speaks: a raw socket's packets have no
        port for the kernel's policies."""
        if destination_port == UPDATE_PORT:
            self.counted["unsent.port"] += len(payloads)
            return
        packets = self.packets
        if packets is None:
            self.counted["unsent.network"] += len(payloads)
            return
        for payload in payloads:
            try:
                packets.send(payload, source_port, destination_port)
            except PermissionError:  # the policy blocks: nothing may be sent now
                self.counted["unsent.paused"] += 1
            except OSError:
                self.counted["unsent.network"] += 1
