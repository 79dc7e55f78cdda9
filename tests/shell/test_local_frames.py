"""The relay's local socket: frames, several clients, slow ones, strangers."""

from __future__ import annotations

import os
import select
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsa.errors import Refused, Rejected
from mcsa.shell import local_frames
from mcsa.shell.local import connect
from mcsa.shell.local_frames import (
    ASK_IF_SERVED,
    LARGEST_FRAME,
    SERVED,
    FrameClient,
    FrameServer,
    IncomingFrame,
    OutgoingFrame,
    connect_frames,
    parse_incoming,
    parse_outgoing,
)
from tests.judges import require_root

PORTS = st.integers(1, 65_535)


def test_the_layout_of_frames() -> None:
    assert OutgoingFrame(5004, 6000, b"rtp").encode() == bytes.fromhex("138c 1770") + b"rtp"
    assert IncomingFrame(7, 6000, 5004, b"rtp").encode() == bytes.fromhex("00000007 1770 138c") + b"rtp"


@given(st.builds(OutgoingFrame, PORTS, PORTS, st.binary(max_size=99)))
def test_outgoing_frames_come_back(frame: OutgoingFrame) -> None:
    assert parse_outgoing(frame.encode()) == frame


@given(st.builds(IncomingFrame, st.integers(0, 2**32 - 1), PORTS, PORTS, st.binary(max_size=99)))
def test_incoming_frames_come_back(frame: IncomingFrame) -> None:
    assert parse_incoming(frame.encode()) == frame


@pytest.mark.parametrize(
    ("frame", "detail"),
    [(b"", "length"), (bytes(3), "length"), (b"\1" * (LARGEST_FRAME + 1), "length"), (b"\0\0\1\1", "port")],
)
def test_frames_of_applications_that_are_none(frame: bytes, detail: str) -> None:
    with pytest.raises(Rejected, match=f"frame: {detail}"):
        parse_outgoing(frame)


def test_frames_of_the_msm_that_are_none() -> None:
    with pytest.raises(Rejected, match="frame: length"):
        parse_incoming(bytes(7))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FrameServer]:
    made = FrameServer(tmp_path / "own" / "group")
    yield made
    made.close()


def connected(server: FrameServer) -> tuple[socket.socket, FrameClient]:
    application = connect(server.path, socket.SOCK_SEQPACKET)
    client = server.accept()
    assert client is not None
    return application, client


def test_every_client_gets_every_frame(server: FrameServer) -> None:
    applications = [connected(server)[0] for _ in range(3)]
    server.deliver(b"one")
    server.deliver(b"two")
    assert [[application.recv(10), application.recv(10)] for application in applications] == [[b"one", b"two"]] * 3
    assert [client.delivered for client in server.clients] == [2, 2, 2]
    for application in applications:
        application.close()


def test_a_clients_frames_arrive_whole_and_one_by_one(server: FrameServer) -> None:
    application, client = connected(server)
    with application:
        application.send(b"one")
        application.send(b"two")
        assert [server.receive(client), server.receive(client), server.receive(client)] == [b"one", b"two", None]
        assert server.clients == (client,)


def test_a_frame_that_is_too_long_is_cut_so_that_its_length_rejects_it(server: FrameServer) -> None:
    application, client = connected(server)
    with application:
        application.send(b"\1" * (LARGEST_FRAME + 100))
        frame = server.receive(client)
    assert frame is not None
    with pytest.raises(Rejected, match="frame: length"):
        parse_outgoing(frame)


def test_a_client_that_has_gone_is_dropped(server: FrameServer) -> None:
    application, client = connected(server)
    application.close()
    assert server.receive(client) is None
    assert server.clients == ()
    assert client.fileno() == -1


def test_what_a_client_said_before_it_went_is_heard_though_it_never_read(server: FrameServer) -> None:
    application, client = connected(server)
    server.deliver(b"frame")
    application.send(b"last words")
    application.close()
    server.deliver(b"another")
    assert server.receive(client) == b"last words"
    assert server.receive(client) is None
    assert client.fileno() == -1


def test_a_client_that_has_gone_is_dropped_by_the_next_frame(server: FrameServer) -> None:
    (leaves, _), (stays, client) = connected(server), connected(server)
    leaves.close()
    server.deliver(b"frame")
    assert server.clients == (client,)
    assert stays.recv(10) == b"frame"
    stays.close()


def test_a_client_that_does_not_read_loses_frames_and_then_its_connection(
    server: FrameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_frames, "PATIENCE", 100)
    (sleeps, sleeper), (reads, reader) = connected(server), connected(server)
    frame = bytes(60_000)
    while not sleeper.lost:
        server.deliver(frame)  # returns, whatever the sleeper does
        assert reads.recv(LARGEST_FRAME) == frame
    assert sleeper.lost == sleeper.lost_in_a_row == 1
    sleeps.recv(LARGEST_FRAME)  # it wakes up for a moment
    while sleeper.lost_in_a_row:
        server.deliver(frame)
        assert reads.recv(LARGEST_FRAME) == frame
        sleeps.recv(LARGEST_FRAME)
    for _ in range(200):
        if sleeper not in server.clients:
            break
        server.deliver(frame)
        assert reads.recv(LARGEST_FRAME) == frame
    assert server.clients == (reader,)
    assert reader.lost == 0
    reads.close()
    sleeps.close()


def test_who_asks_whether_it_is_served_is_answered_and_nobody_else(server: FrameServer) -> None:
    (asks, asking), (others, _) = connected(server), connected(server)
    server.deliver(b"before")
    asks.send(ASK_IF_SERVED)
    asks.send(b"said")
    assert [server.receive(asking), server.receive(asking)] == [None, b"said"]
    assert [asks.recv(10), asks.recv(10)] == [b"before", SERVED]
    assert others.recv(10) == b"before"
    server.deliver(b"after")
    assert [asks.recv(10), others.recv(10)] == [b"after", b"after"]
    asks.close()
    others.close()


def test_a_connection_is_served_when_it_is_there(server: FrameServer) -> None:
    def serve() -> None:
        select.select([server], [], [])
        client = server.accept()
        assert client is not None
        server.deliver(b"not for it")
        select.select([client], [], [])
        server.receive(client)

    with ThreadPoolExecutor(1) as thread:
        serving = thread.submit(serve)
        with connect_frames(server.path) as application:
            serving.result()
            server.deliver(b"the first")
            assert application.recv(20) == b"the first"


def drop_next(server: FrameServer) -> None:
    waiting = server.accept()
    assert waiting is not None
    server.drop(waiting)


def test_who_is_not_served_is_told(server: FrameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_frames, "SERVED_WITHIN", 0.05)
    with pytest.raises(Refused, match="takes no application more"):
        connect_frames(server.path)
    drop_next(server)
    with ThreadPoolExecutor(1) as thread:
        refused = thread.submit(connect_frames, server.path)
        select.select([server], [], [])
        drop_next(server)
        with pytest.raises(Refused, match="takes no application more"):
            refused.result()


def test_nobody_waits_to_connect(server: FrameServer) -> None:
    assert server.accept() is None
    assert not select.select([server], [], [], 0)[0]


def test_a_stranger_is_refused_and_counted() -> None:
    require_root()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        server = FrameServer(Path(directory) / "own" / "group", allowed_users=(4242,))
        for user in (4242, 4243):
            os.seteuid(user)
            try:
                application = connect(server.path, socket.SOCK_SEQPACKET)
            finally:
                os.seteuid(0)
            client = server.accept()
            application.close()
            assert (client is not None and client.peer.user == 4242) == (user == 4242)
        assert server.refused == 1
        server.close()


def test_closing_disconnects_all_and_removes_the_path(server: FrameServer) -> None:
    application, _ = connected(server)
    server.close()
    server.close()
    assert application.recv(10) == b""
    assert not server.path.exists()
    application.close()
