"""The `relay` driver: one group's sockets and threads around its packet path.

    network --GroupSocket--> receive thread --GroupPath.open--> FrameServer --> applications on this host
    applications --FrameServer--> send thread --GroupPath.seal--> GroupSocket --> network

The receive thread owns the path: what the core wants of it comes by a queue, so that nothing is opened by two threads
at once. Neither thread touches the event loop, but to hand over an update or a hint.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcsa.errors import Refused, Rejected
from mcsa.shell.clock import system_now
from mcsa.shell.local_frames import FrameClient, FrameServer, IncomingFrame, parse_outgoing
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from mcsa.updates import PORT as UPDATE_PORT
from services.msm.path import GroupPath, Received

LARGEST_DATAGRAM = 65_535
BURST = 64  # datagrams read before the queue is looked at again
POLL_FOR = 1.0  # seconds


class GroupRelay:
    """See the module. Raises `Refused` where a socket can't be had."""

    def __init__(
        self, path: GroupPath, address: str, folder: Path, tell: Callable[[Any], None], *, shared: bool = False
    ) -> None:
        """`shared`: several MSMs have the group's address on one machine, as on a loopback laboratory."""
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
        """An effect of the core on this group, carried out by the receive thread in order."""
        self._queue.append(effect)
        os.write(self._wake_write, b"\0")

    def close(self) -> None:
        """Leaves the group, disconnects the applications, ends the threads."""
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
                datagram, (source, _port) = self._socket.socket.recvfrom(LARGEST_DATAGRAM)
            except OSError:  # nothing more, or an error that an ICMP message caused
                return
            self._pass_up(self.path.open(datagram, source, now))

    def _pass_up(self, found: list[Any]) -> None:
        for item in found:
            if isinstance(item, Received):
                frame = IncomingFrame(item.sender_id, item.source_port, item.destination_port, item.payload)
                self._frames.deliver(frame.encode())
            else:
                self._tell(item)

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
        for _ in range(BURST):
            descriptor = client.fileno()
            frame = self._frames.receive(client)
            if frame is None:
                if client.fileno() < 0:
                    _unregister(watch, client, descriptor)
                return
            self._send_frame(frame)

    def _send_frame(self, frame: bytes) -> None:
        try:
            outgoing = parse_outgoing(frame)
        except Rejected:
            self.path.counters["unsent.frame"] += 1
            return
        if outgoing.destination_port == UPDATE_PORT:  # where members believe the Authorizer speaks
            self.path.counters["unsent.port"] += 1
            return
        packet = self.path.seal(outgoing.payload, outgoing.source_port, outgoing.destination_port)
        for event in self.path.sequence_low():
            self._tell(event)
        if packet is None:
            return
        try:
            self._socket.send(packet)
        except (Refused, BlockingIOError):
            self.path.counters["unsent.network"] += 1


def _unregister(watch: selectors.BaseSelector, client: FrameClient, descriptor: int) -> None:
    """A closed client has no descriptor any more: it is found by the one it had."""
    for key in list(watch.get_map().values()):
        if key.fileobj is client or key.fd == descriptor:
            watch.unregister(key.fileobj if key.fileobj is not client else key.fd)
