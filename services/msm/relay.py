"""The `relay` driver: one group's sockets and threads around its packet path.

    network --UDP_GRO--> receive thread --GroupPath.open_batch--> FrameServer --> applications on this host
    applications --FrameServer--> send thread --GroupPath.seal_batches--> UDP_SEGMENT --> network

The receive thread owns the path: what the core wants of it comes by a queue, so that nothing is opened by two threads
at once. Neither thread touches the event loop, but to hand over an update or a hint.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from mcsa.errors import Refused, Rejected
from mcsa.shell.batches import BatchReceiver, BatchSender
from mcsa.shell.clock import system_now
from mcsa.shell.local_frames import FrameClient, FrameServer, IncomingFrame, OutgoingFrame, parse_outgoing
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from mcsa.updates import PORT as UPDATE_PORT
from services.msm.path import GroupPath, Received
from services.msm.relaying import Relayed

LARGEST_DATAGRAM = 65_535
BURST = 64  # datagrams read before the queue is looked at again
POLL_FOR = 1.0  # seconds


class GroupRelay:
    """See the module. Raises `Refused` where a socket can't be had."""

    def __init__(
        self,
        path: GroupPath,
        address: str,
        folder: Path,
        tell: Callable[[Any], None],
        *,
        shared: bool = False,
        offload: bool = True,
    ) -> None:
        """`shared`: several MSMs have the group's address on one machine, as on a loopback laboratory. Without
        `offload` each datagram is sent and received by a call of its own."""
        self.path = path
        group = path.group
        self._tell = tell
        self._socket = GroupSocket(
            group.address, ESP_PORT, address, group.sources, ttl=group.ttl or 1, shared=shared, loop=shared
        )
        try:
            self._frames = FrameServer(folder / f"{group.group_id.hex()[:16]}.sock")
        except BaseException:
            self._socket.close()
            raise
        self._socket.socket.setblocking(False)
        self._receiver = BatchReceiver(self._socket.socket) if offload else None
        self._sender = BatchSender(self._socket.socket, (group.address, ESP_PORT)) if offload else None
        self._relaying_sender = BatchSender(self._socket.socket, (group.address, ESP_PORT))
        self.heard: Callable[[Sequence[Received]], None] | None = None  # takes what is heard, in place of applications
        self.said: Callable[[Sequence[Received]], None] | None = None  # is told what this host's applications say
        self._queue: deque[Any] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stop_read, self._stop_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._closing = False
        name = group.name or group.group_id.hex()[:8]
        self._threads = [
            threading.Thread(target=self._receive, name=f"receive {name}", daemon=True),
            threading.Thread(target=self._send, name=f"send {name}", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def socket_path(self) -> str:
        """Where applications connect."""
        return str(self._frames.path)

    def control(self, effect: Any) -> None:
        """An effect of the core on this group, carried out by the receive thread in order; none after `close`."""
        if self._closing:
            return
        self._queue.append(effect)
        os.write(self._wake_write, b"\0")

    def close(self) -> None:
        """Leaves the group, disconnects the applications, ends the threads. May be called twice."""
        if self._closing:
            return
        self._closing = True
        for end in (self._wake_write, self._stop_write):
            os.write(end, b"\0")
        for thread in self._threads:
            thread.join()
        self._frames.close()
        self._socket.close()
        for end in (self._wake_read, self._wake_write, self._stop_read, self._stop_write):
            os.close(end)

    # ---- network to applications

    def _receive(self) -> None:
        watch = selectors.DefaultSelector()
        watch.register(self._socket, selectors.EVENT_READ)
        watch.register(self._wake_read, selectors.EVENT_READ)
        while not self._closing:
            watch.select(POLL_FOR)
            self._take_control()
            self._read_burst()

    def _take_control(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
        while self._queue:
            self._pass_up(self.path.carry_out(self._queue.popleft(), system_now()))

    def _read_burst(self) -> None:
        now = system_now()
        for _ in range(BURST):
            try:
                found = self._receive_one(now) if self._receiver is None else self._receive_batch(self._receiver, now)
            except OSError:  # nothing more, or an error that an ICMP message caused
                return
            self._pass_up(found)

    def _receive_one(self, now: float) -> list[Any]:
        datagram, (source, _port) = self._socket.socket.recvfrom(LARGEST_DATAGRAM)
        return self.path.open(datagram, source, now)

    def _receive_batch(self, receiver: BatchReceiver, now: float) -> list[Any]:
        received = receiver.receive()
        return self.path.open_batch(receiver.slab, *received, now)

    def _pass_up(self, found: list[Any]) -> None:
        received = [item for item in found if isinstance(item, Received)]
        if received:
            (self.heard or self.deliver)(received)
        if len(received) < len(found):
            for item in found:
                if not isinstance(item, Received):
                    self._tell(item)

    def deliver(self, found: Sequence[Received]) -> None:
        """Gives packets to this host's applications. From any thread."""
        for packet in found:
            frame = IncomingFrame(packet.sender_id, packet.source_port, packet.destination_port, packet.payload)
            self._frames.deliver(frame.encode())

    def send_relayed(self, relayed: Relayed) -> None:
        """Carries others' packets into this group. By one thread at a time."""
        try:
            for batch in self.path.relay_batches(*relayed):
                self._relaying_sender.send(batch.view, batch.segment_size)
        except (Refused, OSError):
            self.path.counters["relaying-unsent.network"] += 1
        for event in self.path.sequence_low():
            self._tell(event)

    # ---- applications to network

    def _send(self) -> None:
        watch = selectors.DefaultSelector()
        watch.register(self._frames, selectors.EVENT_READ)
        watch.register(self._stop_read, selectors.EVENT_READ)
        while not self._closing:
            for key, _ in watch.select(POLL_FOR):
                if key.fileobj is self._frames:
                    client = self._frames.accept()
                    if client is not None:
                        watch.register(client, selectors.EVENT_READ)
                elif isinstance(key.fileobj, FrameClient):
                    self._send_from(key.fileobj, watch)

    def _send_from(self, client: FrameClient, watch: selectors.BaseSelector) -> None:
        frames: list[OutgoingFrame] = []
        descriptor = client.fileno()
        for _ in range(BURST):
            frame = self._frames.receive(client)
            if frame is None:
                break
            frames += self._accepted(frame)
        if client.fileno() < 0:
            _unregister(watch, client, descriptor)
        for ports, alike in groupby(frames, _ports):
            self._send_alike([frame.payload for frame in alike], *ports)

    def _accepted(self, frame: bytes) -> list[OutgoingFrame]:
        """The frame, unless it is none, or for the port where members believe the Authorizer speaks."""
        try:
            outgoing = parse_outgoing(frame)
        except Rejected:
            self.path.counters["unsent.frame"] += 1
            return []
        if outgoing.destination_port == UPDATE_PORT:
            self.path.counters["unsent.port"] += 1
            return []
        return [outgoing]

    def _send_alike(self, payloads: list[bytes], source_port: int, destination_port: int) -> None:
        """Payloads with one inner header: what came together leaves together."""
        try:
            if self.said is not None:
                self._send_and_hear(payloads, source_port, destination_port, self.said)
            elif self._sender is None or len(payloads) == 1:
                for payload in payloads:
                    packet = self.path.seal(payload, source_port, destination_port)
                    if packet is not None:
                        self._socket.send(packet)
            else:
                for batch in self.path.seal_batches(payloads, source_port, destination_port):
                    self._sender.send(batch.view, batch.segment_size)
        except (Refused, OSError):  # the network is down, or its buffer full: lost, as on any network
            self.path.counters["unsent.network"] += 1
        for event in self.path.sequence_low():
            self._tell(event)

    def _send_and_hear(
        self, payloads: list[bytes], source_port: int, destination_port: int, said: Callable[[Sequence[Received]], None]
    ) -> None:
        """As a relaying agent, which has to carry on what it says itself."""
        heard = []
        for payload in payloads:
            sealed = self.path.seal_and_hear(payload, source_port, destination_port)
            if sealed is not None:
                self._socket.send(sealed[0])
                heard.append(sealed[1])
        said(heard)


def _ports(frame: OutgoingFrame) -> tuple[int, int]:
    return frame.source_port, frame.destination_port


def _unregister(watch: selectors.BaseSelector, client: FrameClient, descriptor: int) -> None:
    """A closed client has no descriptor any more: it is found by the one it had."""
    for key in list(watch.get_map().values()):
        if key.fileobj is client or key.fd == descriptor:
            watch.unregister(key.fileobj if key.fileobj is not client else key.fd)
