"""Messages over a local stream socket."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mcsa.errors import Refused, Rejected
from mcsa.shell.local_stream import (
    LARGEST_MESSAGE,
    LocalStream,
    LocalStreamServer,
    connect_stream,
    encode_message,
    read_message,
)
from tests.judges import require_root


def reader_of(content: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    return reader


async def test_messages_come_back_then_the_end() -> None:
    messages = [b"", b"one", bytes(LARGEST_MESSAGE)]
    reader = reader_of(b"".join(map(encode_message, messages)))
    assert [await read_message(reader) for _ in range(4)] == [*messages, None]


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"\0\0", "torn length"),
        (b"\0\0\0\2x", "torn"),
        ((LARGEST_MESSAGE + 1).to_bytes(4, "big"), "length"),
    ],
)
async def test_what_is_no_message_is_rejected(content: bytes, detail: str) -> None:
    with pytest.raises(Rejected, match=f"message: {detail}$"):
        await read_message(reader_of(content))


def test_a_message_that_is_too_long_is_a_bug() -> None:
    with pytest.raises(ValueError, match="at most 1048576 bytes"):
        encode_message(bytes(LARGEST_MESSAGE + 1))


async def echo(stream: LocalStream) -> None:
    while (message := await stream.read()) is not None:
        await stream.write(message)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LocalStreamServer]:
    made = LocalStreamServer(tmp_path / "own" / "csm", echo)
    await made.start()
    yield made
    await made.close()


async def test_both_ends_know_each_other(server: LocalStreamServer) -> None:
    streams = [await connect_stream(server.path) for _ in range(3)]
    for number, stream in enumerate(streams):
        await stream.write(b"%d" % number)
    assert [await stream.read() for stream in streams] == [b"0", b"1", b"2"]
    assert streams[0].peer.user == os.geteuid()
    for stream in streams:
        await stream.close()


async def test_rubbish_ends_the_connection_and_is_counted(server: LocalStreamServer) -> None:
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(b"\xff\xff\xff\xff")
    assert await reader.read() == b""
    assert server.rejected == 1
    writer.close()


async def test_an_application_that_vanishes_is_no_error(server: LocalStreamServer) -> None:
    _, writer = await asyncio.open_unix_connection(server.path)
    writer.write(encode_message(bytes(LARGEST_MESSAGE)))  # the answer doesn't fit the socket
    await writer.drain()
    writer.transport.abort()
    stream = await connect_stream(server.path)
    await stream.write(b"still there")
    assert await stream.read() == b"still there"
    await stream.close()


async def test_closing_ends_connections_and_removes_the_path(server: LocalStreamServer) -> None:
    stream = await connect_stream(server.path)
    await stream.write(b"open")
    assert await stream.read() == b"open"
    await server.close()
    await server.close()
    assert await stream.read() is None
    assert not server.path.exists()
    with pytest.raises(Refused, match="Nobody answers"):
        await connect_stream(server.path)
    await stream.close()


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory that other users may pass, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


async def test_a_stranger_is_refused_and_counted(passable: Path) -> None:
    require_root()
    server = LocalStreamServer(passable / "own" / "csm", echo, allowed_users=(4242,))
    await server.start()
    os.seteuid(4243)
    try:
        stream = await connect_stream(server.path)
    finally:
        os.seteuid(0)
    assert await stream.read() is None
    assert server.refused == 1
    await stream.close()
    await server.close()


FEW_FILES = """
import asyncio, resource, sys
from pathlib import Path
from mcsa.shell.local_stream import LocalStreamServer

async def serve(stream):
    while (message := await stream.read()) is not None:
        await stream.write(message if message != b"files" else str(server.unserved).encode())
        Path(sys.argv[1] + ".record").write_bytes(message)

async def live():
    global server
    server = LocalStreamServer(Path(sys.argv[1]), serve)
    await server.start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(live())
"""


def test_who_is_served_goes_on_whoever_else_comes(tmp_path: Path) -> None:
    """Connections leave files for what those need that are there: records, the MSM's sockets."""
    path = tmp_path / "socket"
    tmp_path.chmod(0o700)
    process = subprocess.Popen([sys.executable, "-c", FEW_FILES, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with socket.socket(socket.AF_UNIX) as served:
            served.settimeout(20.0)
            served.connect(str(path))
            others = [socket.socket(socket.AF_UNIX) for _ in range(64)]
            for other in others:
                other.settimeout(20.0)
                other.connect(str(path))
            assert others[-1].recv(1) == b""
            served.sendall(encode_message(b"files"))
            assert int(served.recv(100)[4:]) > 0
            served.sendall(encode_message(b"again"))
            assert served.recv(100) == encode_message(b"again")
            for other in others:
                other.close()
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
