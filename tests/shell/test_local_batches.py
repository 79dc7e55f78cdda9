"""Batches on the relay's local socket: their layout, what is none, and who gets them."""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsa.errors import Refused, Rejected
from mcsa.shell.local_batches import (
    ASK_FOR_BATCHES,
    BatchedApplication,
    IncomingBatch,
    OutgoingBatch,
    is_outgoing_batch,
    parse_incoming_batch,
    parse_outgoing_batch,
)
from mcsa.shell.local_frames import (
    LARGEST_FRAME,
    FrameClient,
    FrameServer,
    IncomingFrame,
    OutgoingFrame,
    parse_outgoing,
)

PORTS = st.integers(1, 65_535)
SENDERS = st.integers(0, 2**20 - 1)
PAYLOADS = st.lists(st.sampled_from([b"", b"a", b"bb", b"cc", bytes(40_000), bytes(65_400)]), max_size=12)


def payloads_of(messages: Sequence[bytes]) -> list[bytes]:
    """As an MSM understands an application's messages."""
    found: list[bytes] = []
    for message in messages:
        if is_outgoing_batch(message):
            batch = parse_outgoing_batch(message)
            assert batch is not None
            found += batch.payloads
        else:
            found.append(parse_outgoing(message).payload)
    return found


def test_the_layout_of_batches() -> None:
    [parts] = OutgoingBatch(5004, 6000, [b"one", b"two"]).messages()
    assert b"".join(parts) == bytes.fromhex("0000 0003 138c 1770") + b"onetwo"
    [(amount, parts)] = IncomingBatch(7, 6000, 5004, [b"one", b"two"]).messages()
    assert amount == 2
    assert b"".join(parts) == bytes.fromhex("80000007 1770 138c 0003") + b"onetwo"


def test_one_payload_is_a_frame() -> None:
    assert list(OutgoingBatch(5004, 6000, [b"rtp"]).messages()) == [(OutgoingFrame(5004, 6000, b"rtp").encode(),)]
    assert list(IncomingBatch(7, 6000, 5004, [b"rtp"]).messages()) == [
        (1, (IncomingFrame(7, 6000, 5004, b"rtp").encode(),))
    ]


def test_the_last_payload_of_a_message_may_be_shorter() -> None:
    batch = parse_outgoing_batch(bytes.fromhex("0000 0003 138c 1770") + b"onetwo3")
    assert batch == (5004, 6000, [b"one", b"two", b"3"])
    incoming = parse_incoming_batch(bytes.fromhex("80000007 1770 138c 0003") + b"onetwo3")
    assert incoming == (7, 6000, 5004, [b"one", b"two", b"3"])


@given(PORTS, PORTS, PAYLOADS)
def test_outgoing_batches_come_back(destination: int, source: int, payloads: list[bytes]) -> None:
    messages = [b"".join(parts) for parts in OutgoingBatch(destination, source, payloads).messages()]
    assert payloads_of(messages) == payloads
    assert all(len(message) <= LARGEST_FRAME for message in messages)


@given(SENDERS, PORTS, PORTS, PAYLOADS)
def test_incoming_batches_come_back(sender: int, source: int, destination: int, payloads: list[bytes]) -> None:
    found: list[bytes] = []
    for amount, parts in IncomingBatch(sender, source, destination, payloads).messages():
        batch = parse_incoming_batch(b"".join(parts))
        assert batch[:3] == (sender, source, destination)
        assert len(batch.payloads) == amount
        assert sum(map(len, parts)) <= LARGEST_FRAME
        found += batch.payloads
    assert found == payloads


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        (bytes(4), "length"),
        (bytes.fromhex("0000 0003 138c 1770"), "length"),
        (bytes.fromhex("0000 0003 138c 1770") + bytes(LARGEST_FRAME), "length"),
        (bytes.fromhex("0000 0000 138c 1770") + b"x", "size"),
        (bytes.fromhex("0000 0003 0000 1770") + b"x", "port"),
    ],
)
def test_batches_of_applications_that_are_none(message: bytes, detail: str) -> None:
    with pytest.raises(Rejected, match=f"frame: {detail}"):
        parse_outgoing_batch(message)


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        (b"", "length"),
        (b"\x80" + bytes(9), "length"),
        (b"\x80" + bytes(10), "size"),
    ],
)
def test_batches_of_the_msm_that_are_none(message: bytes, detail: str) -> None:
    with pytest.raises(Rejected, match=f"frame: {detail}"):
        parse_incoming_batch(message)


@given(st.binary(max_size=40))
def test_no_bytes_break_it(message: bytes) -> None:
    for parse in (parse_outgoing_batch, parse_incoming_batch):
        try:
            parse(message)
        except Rejected as rejected:
            assert rejected.cause == "frame"


def test_a_frame_of_an_application_is_never_taken_for_a_batch() -> None:
    assert not is_outgoing_batch(OutgoingFrame(1, 0, b"").encode())
    assert is_outgoing_batch(ASK_FOR_BATCHES)
    assert parse_outgoing_batch(ASK_FOR_BATCHES) is None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FrameServer]:
    made = FrameServer(tmp_path / "own" / "group")
    yield made
    made.close()


@contextmanager
def served(server: FrameServer) -> Iterator[tuple[BatchedApplication, FrameClient]]:
    """An application, and what the server has of it."""
    with ThreadPoolExecutor(1) as thread:
        serving = thread.submit(_serve, server)
        with BatchedApplication(server.path) as application:
            yield application, serving.result()


def _serve(server: FrameServer) -> FrameClient:
    select.select([server], [], [])
    client = server.accept()
    assert client is not None
    select.select([client], [], [])
    assert server.receive(client) is None  # it asks, and is answered
    select.select([client], [], [])
    return client


def test_an_application_asks_sends_and_hears(server: FrameServer) -> None:
    with served(server) as (application, client):
        assert server.receive(client) == ASK_FOR_BATCHES
        application.send([b"one", b"two", b"three"], 5004, 6000)
        messages = [server.receive(client), server.receive(client)]
        assert [message is not None for message in messages] == [True, True]
        assert payloads_of([message for message in messages if message]) == [b"one", b"two", b"three"]
        for amount, parts in IncomingBatch(7, 6000, 5004, [b"x" * 9, b"y" * 9]).messages():
            server.deliver_to(client, parts, amount)
        assert application.receive() == (7, 6000, 5004, [b"x" * 9, b"y" * 9])
        assert client.delivered == 2


def test_what_a_slow_application_loses_is_counted_in_frames(server: FrameServer) -> None:
    with served(server) as (_, client):
        parts = (b"head", *[bytes(1_000)] * 60)
        for _ in range(300):
            server.deliver_to(client, parts, 60)
        assert client.delivered + client.lost == 300 * 60
        assert client.lost > 0


def test_an_application_whose_msm_is_gone_is_told(server: FrameServer) -> None:
    with served(server) as (application, _):
        server.close()
        with pytest.raises(Refused, match="ended"):
            application.receive()
        with pytest.raises(Refused, match="ended"):
            application.send([b"x"], 1, 2)


def test_an_application_waits_as_its_socket_does(server: FrameServer) -> None:
    with served(server) as (application, _):
        application.socket.settimeout(0.01)
        with pytest.raises(TimeoutError):
            application.receive()
    assert application.socket.fileno() < 0
