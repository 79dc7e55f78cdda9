"""The relay's local socket: applications hand their MSM what to send to a group, and get what others sent.

One message of a SOCK_SEQPACKET socket is one frame, or many (`mcsa.shell.local_batches`). The kernel says that an
application is connected before the MSM knows of it, and what comes until then isn't for it: who wants to miss nothing
asks (`ASK_IF_SERVED`) and is answered (`SERVED`), as `connect_frames` does. Who doesn't ask is never answered.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mcsa.errors import Refused, Rejected
from mcsa.shell.limits import is_kept
from mcsa.shell.local import CODE, Peer, check_peer, connect, listen, peer_of

LARGEST_FRAME = 65_535  # bytes, head included: no UDP datagram is longer
SEND_BUFFER_SIZE = 4 << 20  # bytes that may wait for a client that reads slowly
PATIENCE = 10_000  # messages lost in a row before a client that doesn't read is disconnected
ASK_IF_SERVED = SERVED = bytes(2)  # shorter than any frame
SERVED_WITHIN = 10.0  # seconds that only an MSM which has no room, or is an older one, needs
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h; needs CAP_NET_ADMIN
_OUTGOING = struct.Struct(">HH")
_INCOMING = struct.Struct(">IHH")


class OutgoingFrame(NamedTuple):
    """From an application to its MSM: what to send to the group. Ports are those of the inner UDP header."""

    destination_port: int
    source_port: int
    payload: bytes

    def encode(self) -> bytes:
        """destination port (2 bytes), source port (2), payload; big-endian."""
        return _OUTGOING.pack(self.destination_port, self.source_port) + self.payload


class IncomingFrame(NamedTuple):
    """From the MSM to an application: what somebody sent to the group."""

    sender_id: int
    source_port: int
    destination_port: int
    payload: bytes

    def encode(self) -> bytes:
        """sender ID (4 bytes), source port (2), destination port (2), payload; big-endian."""
        return _INCOMING.pack(self.sender_id, self.source_port, self.destination_port) + self.payload


def parse_outgoing(frame: bytes) -> OutgoingFrame:
    """Bytes of an application's; `Rejected("frame")` where they are too short, too long, or name port 0."""
    if not _OUTGOING.size <= len(frame) <= LARGEST_FRAME:
        raise Rejected("frame", "length")
    destination_port, source_port = _OUTGOING.unpack_from(frame)
    if not destination_port:
        raise Rejected("frame", "port")
    return OutgoingFrame(destination_port, source_port, frame[_OUTGOING.size :])


def parse_incoming(frame: bytes) -> IncomingFrame:
    """Bytes of the MSM's; `Rejected("frame")` where they are too short."""
    if len(frame) < _INCOMING.size:
        raise Rejected("frame", "length")
    return IncomingFrame._make((*_INCOMING.unpack_from(frame), frame[_INCOMING.size :]))


class FrameClient:
    """An application that is connected to a group's socket. `lost` counts frames that it was too slow for."""

    def __init__(self, connection: socket.socket, peer: Peer) -> None:
        self.socket = connection
        self.peer = peer
        self.delivered = 0
        self.lost = 0
        self.lost_in_a_row = 0
        self.takes_batches = False  # it asked for them: `mcsa.shell.local_batches`

    def fileno(self) -> int:
        return self.socket.fileno()


class FrameServer:
    """One group's local socket (SOCK_SEQPACKET: one message, one frame), with any number of clients.

    No method blocks, so the thread that reads the group may call them all: watch `fileno()` (then `accept`) and that
    of each client (then `receive`). `deliver` may be called from another thread than the rest.
    """

    def __init__(self, path: Path, allowed_users: Collection[int] = ()) -> None:
        self.path = path
        self.refused = 0  # connections of users that aren't allowed
        self.clients: tuple[FrameClient, ...] = ()  # replaced, never changed: may be read without the lock
        self._leaving: set[FrameClient] = set()  # disconnected, not yet dropped
        self._allowed_users = frozenset(allowed_users)
        self._change = threading.Lock()
        self._listener = listen(path, socket.SOCK_SEQPACKET, allowed_users)
        self._listener.setblocking(False)

    def fileno(self) -> int:
        return self._listener.fileno()

    def accept(self) -> FrameClient | None:
        """The next client; None where none waits or it may not connect (then it is counted in `refused`). `Refused`
        where this process may open no more files, and so until it has closed some."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        except OSError as error:  # EMFILE, and what is like it: it goes on waiting
            raise Refused(CODE, "files", f"No application more can be served: {error.strerror}.") from error
        if is_kept(connection.fileno()):
            connection.close()
            raise Refused(CODE, "files", "No application more can be served: there would be no room for anything else.")
        peer = peer_of(connection)
        try:
            check_peer(peer, self._allowed_users)
        except Refused:
            self.refused += 1
            connection.close()
            return None
        connection.setblocking(False)
        enlarge(connection, SEND_BUFFER_SIZE)
        client = FrameClient(connection, peer)
        with self._change:
            self.clients = (*self.clients, client)
        return client

    def receive(self, client: FrameClient) -> bytes | None:
        """A client's next frame, for `parse_outgoing`; None where none waits. A client that has gone is dropped, one
        that asks whether it is served is answered."""
        try:
            frame = client.socket.recv(LARGEST_FRAME + 1)  # longer ones are cut, and rejected by their length
        except BlockingIOError:
            return None
        except ConnectionResetError:  # it left without reading what we gave it; what it said before is still there
            return self.receive(client)
        except OSError:
            frame = b""
        if not frame:
            self.drop(client)
        elif frame == ASK_IF_SERVED:
            self.deliver_to(client, (SERVED,), 0)
            return None
        return frame or None

    def deliver(self, frame: bytes) -> None:
        """Gives a frame to every client. Who has no room loses it, and is cut off after `PATIENCE` messages so lost."""
        for client in self.clients:
            self.deliver_to(client, (frame,))

    def deliver_to(self, client: FrameClient, parts: Sequence[bytes], frames: int = 1) -> None:
        """Gives one client a message that stands for so many frames. Likewise."""
        try:
            client.socket.sendmsg(parts, (), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            client.lost += frames
            client.lost_in_a_row += 1
            if client.lost_in_a_row >= PATIENCE:
                self._disconnect(client)
        except OSError:
            self._disconnect(client)
        else:
            client.delivered += frames
            client.lost_in_a_row = 0

    def _disconnect(self, client: FrameClient) -> None:
        """From any thread: it is given nothing more, and reads as one that has gone, so that whoever watches it drops
        it. Closing it here would free its descriptor for the next client, while the old one is still watched."""
        with self._change:
            self.clients = tuple(other for other in self.clients if other is not client)
            self._leaving.add(client)
        with suppress(OSError):  # it has gone by itself
            client.socket.shutdown(socket.SHUT_RDWR)

    def drop(self, client: FrameClient) -> None:
        """Disconnects a client. By who watches it. May be called twice."""
        with self._change:
            self.clients = tuple(other for other in self.clients if other is not client)
            self._leaving.discard(client)
        client.socket.close()

    def close(self) -> None:
        """Disconnects all and removes the path. May be called twice."""
        if self._listener.fileno() < 0:
            return
        self._listener.close()
        for client in (*self.clients, *self._leaving):
            self.drop(client)
        self.path.unlink(missing_ok=True)


def enlarge(connection: socket.socket, size: int) -> None:
    """Makes room for so many bytes that wait to be read at the other end, or for as many as the host allows."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
    except PermissionError:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def connect_frames(path: Path) -> socket.socket:
    """A connection to a group's local socket that is served: what the group says from now on comes to it. `Refused`
    where it isn't."""
    connection = connect(path, socket.SOCK_SEQPACKET)
    connection.settimeout(SERVED_WITHIN)
    try:
        connection.send(ASK_IF_SERVED)
        while (message := connection.recv(LARGEST_FRAME)) != SERVED:
            if not message:
                raise ConnectionResetError
    except OSError as error:
        connection.close()
        sentence = f"The MSM takes no application more at {path}: see `mcsa groups` (local.unserved) and its log."
        raise Refused(CODE, "unserved", sentence) from error
    connection.settimeout(None)
    return connection
