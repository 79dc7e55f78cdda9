"""The CSM's end of the MSM's local sockets: control messages in and out, in plaintext, on this host only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcsa.errors import Refused, Rejected
from mcsa.shell.local import connect
from mcsa.shell.local_frames import LARGEST_FRAME, OutgoingFrame, parse_incoming
from services.csm.events import ControlArrived, RelayLost
from services.csm.terms import CONTROL_PORT

BURST = 64  # frames read before the event loop gets its turn
SEND_BUFFER_SIZE = 1 << 20  # bytes; a run of a key scheme says several messages at once


class Relays:
    """One connection per control group. What can't be sent now is lost, as on any network: it will be repeated."""

    def __init__(self, feed: Callable[[Any], None]) -> None:
        self._feed = feed
        self._open: dict[bytes, socket.socket] = {}
        self._loop = asyncio.get_running_loop()
        self.unsent = 0

    def open(self, group_id: bytes, path: str) -> None:
        """Connects, instead of a connection that is there."""
        self.close(group_id)
        try:
            connection = connect(Path(path), socket.SOCK_SEQPACKET)  # not waited for: what is missed is repaired
        except Refused:  # the MSM has gone again
            self._loop.call_soon(self._feed, RelayLost(group_id))
            return
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_SIZE)
        self._open[group_id] = connection
        self._loop.add_reader(connection, self._read, group_id, connection)

    def close(self, group_id: bytes) -> None:
        """Disconnects, where there is a connection."""
        connection = self._open.pop(group_id, None)
        if connection is not None:
            self._loop.remove_reader(connection)
            connection.close()

    def close_all(self) -> None:
        """Disconnects all."""
        for group_id in list(self._open):
            self.close(group_id)

    def send(self, group_id: bytes, port: int, datagram: bytes) -> None:
        """To the control group, through the MSM."""
        connection = self._open.get(group_id)
        try:
            if connection is None:
                raise BlockingIOError
            connection.send(OutgoingFrame(port, port, datagram).encode(), socket.MSG_NOSIGNAL)
        except OSError:
            self.unsent += 1

    def _read(self, group_id: bytes, connection: socket.socket) -> None:
        for _ in range(BURST):
            if self._open.get(group_id) is not connection:  # what we were told to do meanwhile
                return
            try:
                raw = connection.recv(LARGEST_FRAME)
            except BlockingIOError:
                return
            except OSError:
                raw = b""
            if not raw:
                self.close(group_id)
                self._feed(RelayLost(group_id))
                return
            try:
                frame = parse_incoming(raw)
            except Rejected:
                continue
            if frame.destination_port == CONTROL_PORT:
                self._feed(ControlArrived(group_id, frame.payload))
