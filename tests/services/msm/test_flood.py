"""A million datagrams of rubbish at a real receiver: nothing grows, audio goes on, each is counted."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mcsa.esp.slab import Slab
from mcsa.laboratory.namespaces import Laboratory
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from services.msm.held import HELD_BYTES
from tests.services.msm.flooding import ROUND
from tests.services.msm.link import EPOCH, Host, key_of, until
from tests.services.msm.test_bad_datagrams import NOW, SOURCE, early, path, sender

ALPHA, GAMMA, BETA = 1, 2, 3
MILLION = 1_000_000
GROWTH = 8 << 20  # bytes in a million datagrams: what is kept of each, be it an int in a list, would be more


class Flood:
    """Rubbish from a host of the group's roster, whose address is the right one."""

    def __init__(self, laboratory: Laboratory, group: str) -> None:
        host = laboratory["beta"]
        spis = [key_of(number).spi for number in (BETA, ALPHA, GAMMA)]
        unknown = (EPOCH + 7) % 4_095 + 1 << 20 | BETA  # of an epoch that may come
        argv = [sys.executable, "-m", "tests.services.msm.flooding", group, host.address, *map(str, [*spis, unknown])]
        self._process = host.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        self.sent = 0

    def start_round(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end_round(self) -> None:
        assert self._process.stdout is not None
        self.sent += int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


def _have_arrived(host: Host, amount: int) -> bool:
    return host.arrived() == amount


def _have_come(host: Host, amount: int) -> bool:
    return host.arrived() + host.group.counters().get("overrun", 0) == amount


@pytest.fixture
def hosts(laboratory: Laboratory, tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    group = laboratory.plan.group(91)
    alpha, gamma = (Host(laboratory, name, tmp_path, group) for name in ("alpha", "gamma"))
    for host, own in ((alpha, ALPHA), (gamma, GAMMA)):
        host.key({ALPHA: alpha.address, GAMMA: gamma.address, BETA: laboratory["beta"].address}, own)
    yield alpha, gamma
    alpha.close()
    gamma.close()


def test_a_million_random_datagrams(laboratory: Laboratory, hosts: tuple[Host, Host]) -> None:
    """In rounds that the socket's buffer takes, so that it is known what arrived; 160 bytes of audio in between."""
    alpha, gamma = hosts
    flood, said, before = Flood(laboratory, laboratory.plan.group(91)), 0, 0
    while flood.sent < MILLION:
        flood.start_round()
        for _ in range(10):
            alpha.say(said.to_bytes(160, "big"))
            said += 1
        for number in range(said - 10, said):
            assert gamma.hear() == (ALPHA, number.to_bytes(160, "big"))
        flood.end_round()
        until(partial(_have_arrived, gamma, flood.sent + said))
        if flood.sent < 5 * ROUND:  # until caches are full and held packets have their room
            before = resident()
    flood.close()
    assert resident() - before < GROWTH
    assert gamma.group.counters()["opened"] == said
    dropped = gamma.dropped()
    assert sum(dropped.values()) == flood.sent
    assert dropped.keys() == {"short", "own", "unknown-sender", "wrong-source", "unknown-epoch", "integrity"}
    assert min(dropped.values()) > 1_000
    assert len(gamma.told) < 1_000  # hints to the core


@pytest.mark.parametrize("wire", ["udp", "esp"])
def test_a_burst_that_overruns_the_socket_is_counted_to_the_datagram(
    laboratory: Laboratory, tmp_path: Path, wire: str
) -> None:
    """Datagrams that come one by one: what the kernel joined before is one to it."""
    group, sent = laboratory.plan.group(92), 20_000
    alpha, gamma = (Host(laboratory, name, tmp_path, group, wire=wire) for name in ("alpha", "gamma"))
    for host, own in ((alpha, ALPHA), (gamma, GAMMA)):
        host.key({ALPHA: alpha.address, GAMMA: gamma.address}, own)
    door = gamma.group.engine._wire._socket  # type: ignore[attr-defined]
    door.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    with laboratory["beta"].inside():
        port, raw = (ESP_PORT, False) if wire == "udp" else (0, True)
        out = GroupSocket(group, port, laboratory["beta"].address, bind_group=False, raw_esp=raw)
    with out:
        for number in range(1, sent + 1):
            out.send(bytes(100))
            if number % 500 == 0:  # the queues between two hosts hold 1,000
                until(partial(_have_come, gamma, number))
    assert gamma.group.counters()["overrun"] > 1_000
    alpha.say(b"after the burst")
    assert gamma.hear() == (ALPHA, b"after the burst")
    alpha.close()
    gamma.close()
    assert gamma.group.counters()["overrun"] > 1_000  # it can be told of a group that was left


def test_what_is_kept_of_dropped_datagrams_is_nothing() -> None:
    """To the byte, which a process's memory does not show."""
    made, slab, audio = path(), Slab(), sender()
    packets = [(early(number)[:4] if number % 3 else audio.seal(b"x", 1, 2)[:4]) + bytes(56) for number in range(64)]

    def rubbish(rounds: int, start: float) -> None:
        for number in range(rounds):
            slab.view[: 64 * 60] = b"".join(packets)
            made.open_batch(slab, 64 * 60, 60, SOURCE, start + number / 100)
            made.open(packets[number % 64], SOURCE, start + number / 100)

    rubbish(200, NOW)
    gc.collect()
    tracemalloc.start()
    try:
        rubbish(50, NOW + 2)
        held = tracemalloc.get_traced_memory()[0]
        rubbish(300, NOW + 3)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - held
    finally:
        tracemalloc.stop()
    assert held < HELD_BYTES
    assert grown < 8_192  # 19,500 packets: less than half a byte of each
