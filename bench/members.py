"""MSMs by the dozen: the real service, several to a process, each with a bus connection and sockets of its own.

They lose group messages on purpose, each copy by itself: of what the Authorizer tells once on the bus and three times
by multicast, every one is another throw. Requests and their answers (registration, repair) go over TCP and aren't lost.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic
from typing import Any

from mcsa.esp.slab import Slab
from mcsa.shell.bus import Headers
from mcsa.shell.log import set_up_log
from mcsa.shell.process import die_with_parent, forbid_core_dumps, stop_event
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.config import MsmSettings
from services.msm.events import InstallEpoch
from services.msm.path import GroupPath
from services.msm.service import MsmService

READY_WITHIN = 20.0  # seconds
STOP_WITHIN = 8.0  # seconds between SIGTERM and SIGKILL
LOOK_EACH = 0.002  # seconds between looks at the board

Fork = multiprocessing.get_context("fork")


class Board:
    """Who had the key of which epoch when. Memory that this process shares with those that are forked later.

    Times are of CLOCK_MONOTONIC, which all processes of a machine have in common.
    """

    def __init__(self, members: int) -> None:
        self._epochs = Fork.RawArray(ctypes.c_uint64, members)
        self._times = Fork.RawArray(ctypes.c_double, members)

    def note(self, member: int, epoch: int) -> None:
        """This member has this epoch's key from now on."""
        self._times[member] = monotonic()
        self._epochs[member] = epoch  # last: who sees the epoch sees its time

    async def times(self, members: Collection[int], epoch: int, until: float) -> list[float | None]:
        """When each of them had it, once all have; None for those that have not at `until`."""
        missing = set(members)
        while missing and monotonic() < until:
            await asyncio.sleep(LOOK_EACH)
            missing = {member for member in missing if self._epochs[member] < epoch}
        return [None if member in missing else self._times[member] for member in members]


class NotingPath(GroupPath):
    """Notes a key once packets can be opened with it. What UDP_GRO handed over in one piece is lost in one piece."""

    def __init__(
        self, domain: str, group: GroupDescription, lost: Callable[[], bool], note: Callable[[int], None]
    ) -> None:
        super().__init__(domain, group)
        self._lost = lost
        self._note = note

    def carry_out(self, effect: Any, now: float) -> list[Any]:
        """See `GroupPath`."""
        found = super().carry_out(effect, now)
        if isinstance(effect, InstallEpoch):
            self._note(effect.epoch)
        return found

    def open(self, datagram: bytes | memoryview, source: str, now: float) -> list[Any]:
        """See `GroupPath`."""
        return [] if self._lost() else super().open(datagram, source, now)

    def open_batch(self, slab: Slab, length: int, segment_size: int, source: str, now: float) -> list[Any]:
        """See `GroupPath`."""
        return [] if self._lost() else super().open_batch(slab, length, segment_size, source, now)


class LosingMsmService(MsmService):
    """An MSM that loses this part of what groups are told."""

    def __init__(self, settings: MsmSettings, loss: float, seed: int, note: Callable[[int], None]) -> None:
        self._random = random.Random(seed)
        self._loss = loss
        self._note = note
        super().__init__(settings)

    def make_path(self, domain: str, group: GroupDescription) -> GroupPath:
        """See `MsmService`."""
        return NotingPath(domain, group, self._lost, self._note)

    def _group_told(self, subject: str, raw: bytes, headers: Headers) -> None:
        if not self._lost():
            super()._group_told(subject, raw, headers)

    def _lost(self) -> bool:
        return self._random.random() < self._loss


@contextmanager
def member_processes(
    configurations: Sequence[Path], processes: int, loss: float, board: Board, log: Path
) -> Iterator[None]:
    """An MSM for each configuration, dealt out to so many processes; all serve inside, and have ended after.

    To be called before the caller has threads or an event loop: it forks.
    """
    ready = Fork.Semaphore(0)
    numbers = [range(first, len(configurations), processes) for first in range(processes)]

    def start(mine: Sequence[int]) -> BaseProcess:
        services = [(member, configurations[member]) for member in mine]
        process = Fork.Process(target=lambda: _serve(services, loss, board, log, ready.release), daemon=True)
        process.start()
        return process

    children = [start(mine) for mine in numbers if mine]
    try:
        for _ in children:
            if not ready.acquire(timeout=READY_WITHIN):
                raise TimeoutError(f"the MSMs were not ready; they said:\n{log.read_text()[-1000:]}")
        yield
    finally:
        _stop(children)


def _stop(children: Sequence[BaseProcess]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        child.join(STOP_WITHIN)
        if child.is_alive():
            child.kill()
            child.join()


def _serve(
    configurations: Sequence[tuple[int, Path]], loss: float, board: Board, log: Path, ready: Callable[[], None]
) -> None:
    """The whole life of such a process."""
    die_with_parent()
    forbid_core_dumps()
    set_up_log("msm", log.open("a"))

    def service(member: int, configuration: Path) -> MsmService:
        settings = MsmSettings.load(configuration)
        return LosingMsmService(settings, loss, member, lambda epoch: board.note(member, epoch))

    async def life() -> None:
        stop = stop_event()
        services = [service(*each) for each in configurations]
        try:
            await asyncio.gather(*(service.start() for service in services))
            ready()
            await stop.wait()
        finally:
            await asyncio.gather(*(service.close() for service in services))

    asyncio.run(life())
