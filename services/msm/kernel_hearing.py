"""What the MSM hears of a group whose packets the kernel opens: little, and each packet only once it is of interest."""

from __future__ import annotations

from mcsa.esp.spi import split_spi
from mcsa.shell.opened_packets import Encapsulated, Opened, OpenedPackets, OuterSocket
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.xfrm.filters import esp_filter, udp_filter
from mcsa.xfrm.state import ESP_PORT
from services.msm.drivers.interface import Tell
from services.msm.engine import BURST
from services.msm.events import GroupMessage, UnknownEpochSeen
from services.msm.kernel_table import KernelTable
from services.msm.local_outlet import LocalOutlet
from services.msm.received import Received

HINT_EACH = 0.1  # seconds: the core repairs once a second at most


class KernelHearing:
    """By one thread, on these sockets. `tell` takes what the Authorizer said, and that there may be an epoch that isn't
    known."""

    def __init__(
        self, table: KernelTable, packets: OpenedPackets, outer: OuterSocket, local: LocalOutlet, tell: Tell
    ) -> None:
        self._table = table
        self._packets = packets
        self._outer = outer
        self._local = local
        self._tell = tell
        self._hinted_at = 0.0
        self._shown: object = None

    @property
    def doors(self) -> tuple[OpenedPackets | OuterSocket, ...]:
        """Readable when something waits."""
        return self._packets, self._outer

    def close(self) -> None:
        """Leaves the group. May be called twice."""
        for door in self.doors:
            door.close()

    def obey(self) -> None:
        """The policies that the table has for the MSM's own socket now."""
        self._packets.obey(self._table.socket_policies)

    def show(self) -> None:
        """The sockets let through what is of interest now."""
        everything, tags = self._local.is_used, self._table.tags
        if (everything, tags) == self._shown:
            return
        self._shown = (everything, tags)
        version, in_udp = self._packets.version, self._table.in_udp
        self._packets.show(udp_filter(version, tags, everything=everything, in_udp=in_udp))
        if not in_udp:
            self._outer.show(esp_filter(version, tags))

    def hear(self, now: float) -> None:
        """What waits, a burst of it at most."""
        found: list[Received] = []
        for _ in range(BURST):
            opened = self._packets.receive()
            if opened is None:
                break
            found += self._take(opened, now)
        self._local.deliver(found)
        for _ in range(BURST):
            sealed = self._outer.receive()
            if sealed is None:
                break
            self._hint(sealed, now)

    def _take(self, opened: Opened, now: float) -> list[Received]:
        """What of it is for who is at the local socket."""
        if opened.destination_port == ESP_PORT and self._table.in_udp:
            self._hint(Encapsulated(opened.source, opened.payload), now)
        elif opened.destination_port == UPDATE_PORT:
            if self._table.senders.is_authorizer(opened.source):
                self._tell(GroupMessage(self._table.group.group_id, opened.payload))
        elif (sender_id := self._table.senders.sender_at(opened.source)) is not None:
            ports = opened.source_port, opened.destination_port
            return [Received(sender_id, *ports, opened.payload, epoch=0, sequence=0)]
        return []

    def _hint(self, sealed: Encapsulated, now: float) -> None:
        """A packet for whose epoch there is no state: an update may have been missed."""
        if len(sealed.packet) < 4 or now < self._hinted_at + HINT_EACH:
            return
        tag, sender_id = split_spi(int.from_bytes(sealed.packet[:4], "big"))
        if tag not in self._table.tags and str(self._table.senders.address_of(sender_id)) == sealed.source:
            self._hinted_at = now
            self._tell(UnknownEpochSeen(self._table.group.group_id))
