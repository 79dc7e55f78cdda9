"""What the kernel dropped is told, of each kind of socket that carries ESP."""

from __future__ import annotations

import socket

import pytest

from mcsa.shell.overruns import overruns

LOOPBACK = ("127.0.0.1", 0)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_RAW], ids=["UDP", "protocol 50"])
def test_all_that_had_no_room_is_counted(kind: socket.SocketKind) -> None:
    protocol = 50 if kind == socket.SOCK_RAW else 0
    with socket.socket(socket.AF_INET, kind, protocol) as into, socket.socket(socket.AF_INET, kind, protocol) as out:
        into.bind(LOOPBACK)
        into.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        out.connect(into.getsockname())
        assert overruns(into) == 0
        for _ in range(100):
            out.send(bytes(1_000))
        into.setblocking(False)
        arrived = 0
        with pytest.raises(BlockingIOError):
            while into.recv(2_000):
                arrived += 1
        assert arrived + overruns(into) == 100
        assert overruns(into) > 50
    assert overruns(into) == 0
