"""Messages over a local stream socket, for the application protocol: each has its length before it.

A message on the wire is its length (4 bytes, big-endian, at most 1 MiB) and its bytes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from pathlib import Path

from mcsa.errors import Refused, Rejected
from mcsa.shell.limits import is_kept
from mcsa.shell.local import Peer, check_peer, connect, listen, peer_of

LARGEST_MESSAGE = 1 << 20  # bytes
_LENGTH = struct.Struct(">I")


def encode_message(payload: bytes) -> bytes:
    """A message with its length before it; ValueError where it is too long, which is the caller's bug."""
    if len(payload) > LARGEST_MESSAGE:
        raise ValueError(f"a message has at most {LARGEST_MESSAGE} bytes, this one {len(payload)}")
    return _LENGTH.pack(len(payload)) + payload


async def read_message(reader: asyncio.StreamReader) -> bytes | None:
    """The next message; None at the end. `Rejected("message")` where it is longer than allowed, or torn."""
    try:
        head = await reader.readexactly(_LENGTH.size)
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise Rejected("message", "torn length") from None
        return None
    (length,) = _LENGTH.unpack(head)
    if length > LARGEST_MESSAGE:
        raise Rejected("message", "length")
    try:
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise Rejected("message", "torn") from None


class LocalStream:
    """One connection. `peer` is who is at the other end, as the kernel says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.peer: Peer = peer_of(writer.get_extra_info("socket"))

    async def read(self) -> bytes | None:
        """The next message; None at the end. `Rejected("message")` as `read_message`."""
        return await read_message(self._reader)

    async def write(self, payload: bytes) -> None:
        """Sends one message; waits while the other end is slow. ConnectionError where it has gone."""
        self._writer.write(encode_message(payload))
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


class LocalStreamServer:
    """Serves a path. `refused` counts connections of users that aren't allowed, `rejected` those that sent rubbish,
    `unserved` those for which there were too few files left."""

    def __init__(
        self, path: Path, serve: Callable[[LocalStream], Awaitable[None]], allowed_users: Collection[int] = ()
    ) -> None:
        """`serve` is called for each connection; when it returns, the connection is closed."""
        self.path = path
        self.refused = 0
        self.rejected = 0
        self.unserved = 0
        self._serve = serve
        self._allowed_users = frozenset(allowed_users)
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens; `Refused` as `mcsa.shell.local.listen`."""
        listener = listen(self.path, socket.SOCK_STREAM, self._allowed_users)
        self._server = await asyncio.start_unix_server(self._connected, sock=listener)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = LocalStream(reader, writer)
        if is_kept(writer.get_extra_info("socket").fileno()):
            self.unserved += 1
            await stream.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            if self._admits(stream.peer):
                with suppress(ConnectionError):  # the application has gone
                    await self._serve(stream)
        except Rejected:
            self.rejected += 1
        except (
            asyncio.CancelledError
        ):  # by `close`; what asyncio.streams of Python 3.11 does next fails on a cancelled task
            pass
        finally:
            self._open.discard(task)
            await stream.close()

    def _admits(self, peer: Peer) -> bool:
        try:
            check_peer(peer, self._allowed_users)
        except Refused:
            self.refused += 1
            return False
        return True

    async def close(self) -> None:
        """Ends every connection and removes the path. May be called twice."""
        if self._server is None:
            return
        self._server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._server = None
        self.path.unlink(missing_ok=True)


async def connect_stream(path: Path) -> LocalStream:
    """A connection to what serves `path`; `Refused` where nobody does. Who that is, `peer` tells."""
    return LocalStream(*await asyncio.open_unix_connection(sock=connect(path, socket.SOCK_STREAM)))
