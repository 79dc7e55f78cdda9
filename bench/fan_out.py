"""One rekey to 1,000 members on one machine, by multicast and by the bus: until the last has it, until the last has
verified it and unwrapped the key.

Every member has a multicast socket, and in a second part a bus connection under an identity of its own; there is one
process for each core. Rounds of all kinds take turns, so that what else the machine does meets them all, and the
medians are given. `Crowd` says what is done with a rekey; it is an ejection under `lkh`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import selectors
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median

from bench.crowd import Board, Crowd, Fork, Kind
from bench.rekeys import Rekeys
from mcsa.broker import Grant, authorizer_grant, bus_name, msm_grant
from mcsa.laboratory.namespaces import Laboratory
from mcsa.shell.broker_process import BrokerProcess
from mcsa.shell.bus import Bus
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from mcsa.shell.nkeys import NkeySeed
from mcsa.shell.process import die_with_parent
from mcsa.subjects import AUTHORIZER, MSM, group_subject

FIGURES = {
    "multicast_received_ms": "from sending to the last member's socket having been read (milliseconds)",
    "multicast_verified_ms": "until the last member has verified the update and unwrapped the key",
    "multicast_verified_ratio": "that, by check_ms",
    "multicast_installed_ms": "until the last member's packet path has the new epoch",
    "check_ms": "the signature checks alone: one for each member, on all cores at once",
    "bus_received_ms": "from publishing to the last member's connection having handed it over",
    "bus_verified_ms": "until the last member has verified and unwrapped",
    "bus_verified_ratio": "that, by bus_check_ms",
    "bus_installed_ms": "until the last member's packet path has the new epoch",
    "bus_check_ms": "check_ms, in the rounds of the bus",
    "members": "each with a socket, and a bus connection",
    "processes": "that the members were in",
}
ROUNDS = 11
SECONDS = 8.0  # but no new round of either way after these
SETTLE = 0.02  # seconds between rounds
READY_WITHIN = 25.0  # seconds
AT_ONCE = 20  # connections being made by a process
SIZE = 1_500  # bytes of what is only received: as an update

Send = Callable[[bytes, bytes], None]
"""Sends an update (by the bus) or the datagram with it (by multicast)."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """For `bench.__main__`."""
    parser.add_argument("--members", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each kind")


def run(members: int = 1_000, rounds: int = ROUNDS) -> dict[str, float]:
    """All figures."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    cores = len(os.sched_getaffinity(0))
    with Laboratory(["machine"], (), "loopback") as laboratory:
        address, group = laboratory["machine"].address, laboratory.plan.group(1)
        found = {
            **_by_multicast(members, cores, rounds, group, address),
            **_by_bus(members, cores, rounds, group, address),
        }
    return {name: {**found, "members": members, "processes": cores}[name] for name in FIGURES}


# ---- rounds


def _rounds(rekeys: Rekeys, board: Board, rounds: int, send: Send) -> dict[Kind, float]:
    """Milliseconds of each kind: the median, and of `CHECK` the process that took longest."""
    measured: dict[Kind, list[float]] = {kind: [] for kind in Kind}
    ends_at = time.monotonic() + SECONDS
    for number in range(rounds):
        if number and time.monotonic() > ends_at:
            break
        for kind in Kind:
            real = kind in (Kind.VERIFY, Kind.INSTALL)
            update, datagram = rekeys.eject() if real else (bytes(SIZE), bytes(SIZE))
            board.begin(kind)
            time.sleep(SETTLE)
            started_at = time.monotonic()
            send(update, datagram)
            seconds = board.last_at() - started_at
            measured[kind].append(max(board.check_seconds) if kind is Kind.CHECK else seconds)
    return {kind: median(each) * 1e3 for kind, each in measured.items()}


def _named(way: str, check: str, found: dict[Kind, float]) -> dict[str, float]:
    return {
        f"{way}_received_ms": round(found[Kind.RECEIVE], 2),
        f"{way}_verified_ms": round(found[Kind.VERIFY], 1),
        f"{way}_verified_ratio": round(found[Kind.VERIFY] / found[Kind.CHECK], 2),
        f"{way}_installed_ms": round(found[Kind.INSTALL], 1),
        check: round(found[Kind.CHECK], 1),
    }


@contextmanager
def _processes(
    rekeys: Rekeys, members: int, processes: int, board: Board, live: Callable[[Crowd, Callable[[], None]], None]
) -> Iterator[None]:
    """Each on a core of its own, with its part of the members; `live` calls what it is handed when it listens."""
    ready, cores = Fork.Semaphore(0), sorted(os.sched_getaffinity(0))

    def start(process: int) -> BaseProcess:
        def life() -> None:
            die_with_parent()
            os.sched_setaffinity(0, {cores[process % len(cores)]})
            crowd = Crowd(rekeys, range(process, members, processes), process, board)
            gc.collect()
            gc.freeze()  # a thousand members in one heap are the bench's doing
            live(crowd, ready.release)

        child = Fork.Process(target=life, daemon=True)
        child.start()
        return child

    children = [start(process) for process in range(processes)]
    try:
        for _ in children:
            if not ready.acquire(timeout=READY_WITHIN):
                raise TimeoutError("the members were not ready")
        yield
    finally:
        for child in children:
            child.kill()
            child.join()


# ---- both ways


def _by_multicast(members: int, processes: int, rounds: int, group: str, address: str) -> dict[str, float]:
    rekeys, board = Rekeys(members, 2 * rounds, group, address), Board(members, processes)

    def live(crowd: Crowd, ready: Callable[[], None]) -> None:
        with ExitStack() as opened, selectors.DefaultSelector() as watch:
            for number in crowd.numbers:
                own = opened.enter_context(GroupSocket(group, ESP_PORT, address, shared=True, loop=True))
                watch.register(own.socket, selectors.EVENT_READ, number)
            ready()
            while True:
                for key, _ in watch.select():
                    datagram, (source, _port) = key.fileobj.recvfrom(65_535)  # type: ignore[union-attr]
                    crowd.datagram_arrived(key.data, datagram, source)

    with GroupSocket(group, ESP_PORT, address, loop=True, bind_group=False) as sender:
        with _processes(rekeys, members, processes, board, live):
            found = _rounds(rekeys, board, rounds, lambda _update, datagram: sender.send(datagram))
    return _named("multicast", "check_ms", found)


def _by_bus(members: int, processes: int, rounds: int, group: str, address: str) -> dict[str, float]:
    rekeys, board = Rekeys(members, 2 * rounds, group, address), Board(members, processes)
    seeds = [NkeySeed.draw(os.urandom) for _ in range(members)]
    teller = NkeySeed.draw(os.urandom)
    grants: list[Grant] = [msm_grant(f"host-{number}", seed.public) for number, seed in enumerate(seeds)]
    grants.append(authorizer_grant("main", teller.public))
    subject = group_subject("main", rekeys.group.group_id)
    with tempfile.TemporaryDirectory(prefix="mcsa-bench-") as folder:
        with BrokerProcess(Path(folder), grants, host=address) as broker:

            async def connect(crowd: Crowd, number: int, turn: asyncio.Semaphore) -> Bus:
                async with turn:
                    bus = Bus([broker.url], bus_name(MSM, f"host-{number}"), seeds[number])
                    await bus.start(READY_WITHIN)
                    await bus.subscribe(subject, lambda _subject, raw, _headers: crowd.update_arrived(number, raw))
                    return bus

            async def listen(crowd: Crowd, ready: Callable[[], None]) -> None:
                turn = asyncio.Semaphore(AT_ONCE)
                buses = await asyncio.gather(*(connect(crowd, number, turn) for number in crowd.numbers))
                ready()
                await asyncio.Event().wait()
                assert buses  # which live as long

            with _processes(rekeys, members, processes, board, lambda *given: asyncio.run(listen(*given))):
                with asyncio.Runner() as runner:
                    bus = Bus([broker.url], bus_name(AUTHORIZER, "main"), teller)
                    runner.run(bus.start())

                    async def tell(update: bytes) -> None:
                        await bus.publish(subject, update)
                        await asyncio.sleep(SETTLE)  # the loop has to run for the bytes to leave

                    found = _rounds(rekeys, board, rounds, lambda update, _datagram: runner.run(tell(update)))
                    runner.run(bus.close())
    return _named("bus", "bus_check_ms", found)
