from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from mcsa.esp.outbound import batch_limit
from mcsa.shell.batches import UDP_SEGMENT, BatchReceiver, BatchSender
from tests.esp.parts import EPOCH, SENDER, inbound, outbound


@contextmanager
def loopback() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.socket(type=socket.SOCK_DGRAM) as out, socket.socket(type=socket.SOCK_DGRAM) as into:
        into.bind(("127.0.0.1", 0))
        into.settimeout(5)
        yield out, into


class NoOffload(socket.socket):
    """A kernel without the offloads, or with IPsec in the way: fails as those do."""

    at_probe = True

    def setsockopt(self, level: int, option: int, *value: object) -> None:
        if level == socket.IPPROTO_UDP and self.at_probe:
            raise OSError(errno.ENOPROTOOPT, "not to be had")
        super().setsockopt(level, option, *value)  # type: ignore[call-overload]

    def sendmsg(self, *_: object) -> int:
        raise OSError(errno.EIO, "IPsec is in the way")


def receive_all(receiver: BatchReceiver, count: int) -> list[bytes]:
    """So many datagrams."""
    found: list[bytes] = []
    while len(found) < count:
        length, size, source = receiver.receive()
        assert source == "127.0.0.1"
        edges = [*range(0, length, size), length]
        found += [bytes(receiver.slab.view[start:end]) for start, end in pairwise(edges)]
    return found


@pytest.mark.parametrize("lengths", [[1_400] * 45, [100] * 64, [100, 100, 33], [100], [20_000] * 3])
def test_a_batch_arrives_as_the_packets_it_was(lengths: list[int]) -> None:
    packets = [bytes((n,)) * length for n, length in enumerate(lengths)]
    with loopback() as (out, into):
        receiver = BatchReceiver(into)
        BatchSender(out, into.getsockname()).send(memoryview(b"".join(packets)), lengths[0])
        assert receive_all(receiver, len(packets)) == packets


def test_this_kernel_has_both_offloads_and_a_batch_is_one_call() -> None:
    with loopback() as (out, into):
        sender, receiver = BatchSender(out, into.getsockname()), BatchReceiver(into)
        if not (sender.offloaded and receiver.offloaded):
            pytest.skip("this kernel has no UDP_SEGMENT or no UDP_GRO (Linux 5.0)")
        sender.send(memoryview(bytes(1_000)), 100)
        assert receiver.receive() == (1_000, 100, "127.0.0.1")


def test_single_packets_come_one_by_one() -> None:
    with loopback() as (out, into):
        receiver = BatchReceiver(into)
        out.sendto(b"hello", into.getsockname())
        assert receiver.receive() == (5, 5, "127.0.0.1")


def test_an_empty_datagram_is_no_segment() -> None:
    with loopback() as (out, into):
        receiver = BatchReceiver(into)
        out.sendto(b"", into.getsockname())
        length, size, source = receiver.receive()
        assert (length, source) == (0, "127.0.0.1")
        batch = inbound().open_batch(receiver.slab, length, size, source)
        assert (batch.runs, batch.rejected) == ([], ["short"])


@pytest.mark.parametrize("at_probe", [True, False])
def test_without_the_offload_it_sends_one_by_one(at_probe: bool) -> None:
    with loopback() as (_, into), NoOffload(type=socket.SOCK_DGRAM) as out:
        out.at_probe = at_probe
        sender = BatchSender(out, into.getsockname())
        assert sender.offloaded is not at_probe
        sender.send(memoryview(b"aabbc"), 2)
        assert not sender.offloaded
        assert receive_all(BatchReceiver(into), 3) == [b"aa", b"bb", b"c"]


def test_without_the_offload_it_receives_one_by_one() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as out, NoOffload(type=socket.SOCK_DGRAM) as into:
        into.bind(("127.0.0.1", 0))
        receiver = BatchReceiver(into)
        assert not receiver.offloaded
        out.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 2)
        out.sendto(b"aabb", into.getsockname())
        assert receive_all(receiver, 2) == [b"aa", b"bb"]


def test_it_does_not_wait_where_the_socket_does_not() -> None:
    with loopback() as (_, into):
        into.setblocking(False)
        with pytest.raises(BlockingIOError):
            BatchReceiver(into).receive()


def test_an_error_that_is_no_missing_offload_is_raised() -> None:
    with loopback() as (out, into):
        sender = BatchSender(out, into.getsockname())
        out.close()
        with pytest.raises(OSError):
            sender.send(memoryview(b"aabb"), 2)


def test_it_counts_what_the_kernel_dropped() -> None:
    with loopback() as (out, into):
        into.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        receiver = BatchReceiver(into)
        for _ in range(100):
            out.sendto(bytes(1_000), into.getsockname())
        receiver.receive()
        assert receiver.overflows == 0  # the first that waited came before any was dropped
        into.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                receiver.receive()
        out.sendto(b"after", into.getsockname())
        receiver.receive()
        assert receiver.overflows > 50


def test_sealed_here_and_opened_there() -> None:
    payloads = [struct.pack(">I", n) + bytes(1_396) for n in range(2 * batch_limit(1_400) + 3)]
    receiver, opened = inbound(), []
    receiver.set_roster({SENDER: "127.0.0.1"})
    with loopback() as (out, into):
        into.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sender, door = BatchSender(out, into.getsockname()), BatchReceiver(into)
        for batch in outbound().seal_batches(payloads, 5004, 5006):
            sender.send(batch.view, batch.segment_size)
            waiting = len(batch.view) // batch.segment_size
            while waiting > 0:
                length, size, source = door.receive()
                runs = receiver.open_batch(door.slab, length, size, source).runs
                waiting -= sum(len(run.payloads) for run in runs)
                opened += [payload for run in runs for payload in run.payloads]
                assert {(run.sender_id, run.epoch) for run in runs} == {(SENDER, EPOCH)}
    assert opened == payloads
