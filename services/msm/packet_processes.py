"""More than one core: a host's groups, spread over several processes.

    MSM: core, bus ──Open, Control──► packet process: driver, groups ── network, applications
                   ◄──events, counts──

Python gives one core to a process. So that a host's groups can have more, each is opened in one of `packet_processes`
(`packet_process.py`), where its keys are and its packets pass; the MSM's own process decides as it always does. Groups
of a key management protocol with subgroups stay in the MSM's: a relaying agent carries packets between two of them.

Where a packet process ends or hangs, the MSM ends: whoever started it starts it anew, and its groups register again, as
after any crash.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from mcsa.errors import Refused
from mcsa.gkm import scheme_named
from mcsa.networks import Networks
from mcsa.shell.child_process import ChildProcess
from mcsa.v1.types_pb2 import GroupDescription
from services.msm.drivers import DriverSettings, GroupAtWork, driver_named, drivers
from services.msm.drivers.interface import Tell
from services.msm.engine import GroupEngine
from services.msm.largest import largest_of
from services.msm.packet_messages import (
    Begin,
    Close,
    Control,
    Counted,
    Gone,
    MoveDriver,
    MoveGroup,
    NotMoved,
    NotOpened,
    Open,
    Seen,
    Told,
    receive,
    send,
)
from services.msm.path import GroupPath

READY_WITHIN = 60.0  # seconds, of a machine that has much else to start
ANSWERED_WITHIN = 10.0  # seconds
LOOKS = 10  # of a second each, in which nothing comes: then a packet process hangs (it counts twice a second)


class PacketProcesses:
    """A driver whose groups are in other processes. Raises `Refused` where the driver of that name can't be there."""

    spreads = False

    def __init__(self, name: str, settings: DriverSettings, amount: int) -> None:
        driver = driver_named(name)
        if not driver.spreads:
            others = " or ".join(sorted(other for other, each in drivers().items() if each.spreads))
            sentence = (
                f"Under the driver {name} there are no packet processes: take `packet_processes` out of msm.toml,"
            )
            raise Refused("driver", "packet-processes", f"{sentence} or choose the driver {others}.")
        self._here = driver(settings)
        self._settings = settings
        self._processes = [_Process(name, settings, number) for number in range(amount)]
        for process in self._processes:  # they have started side by side
            process.await_ready()

    def open(self, domain: str, group: GroupDescription, tell: Tell) -> GroupAtWork:
        if scheme_named(group.policy.gkm).subgroups:
            return self._here.open(domain, group, tell)
        # Conferences have a quiet group, "control", beside the loud ones: each kind is spread by itself.
        process = min(self._processes, key=lambda each: (each.names[group.name], each.names.total()))
        return process.open(domain, group, self._settings.networks.of(group.address).address, tell)

    def move(self, networks: Networks) -> None:
        self._settings = replace(self._settings, networks=networks)
        self._here.move(networks)
        for process in self._processes:
            process.send(MoveDriver(networks))

    def close(self, staying: Collection[str] = ()) -> None:
        for process in self._processes:
            process.close()
        self._here.close(staying)


class _Process:
    """One of them, as the MSM sees it. A thread hears what it says."""

    def __init__(self, driver: str, settings: DriverSettings, number: int) -> None:
        self.names: Counter[str] = Counter()  # of the groups that are there
        self.counted: Mapping[bytes, Mapping[str, int]] = {}
        self._groups: Mapping[bytes, _GroupElsewhere] = {}  # replaced, never changed
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._closing = False
        self._child = ChildProcess("services.msm.packet_process")
        self._thread = threading.Thread(target=self._hear, name=f"packet process {number}", daemon=True)
        self.send(Begin(driver, replace(settings, make_path=GroupPath, cores=settings.cores.beginning_with(number))))

    def await_ready(self) -> None:
        """It serves from then on."""
        if not self._child.channel.poll(READY_WITHIN):
            raise SystemError(f"packet process {self._child.id} doesn't start")
        try:
            receive(self._child.channel)
        except Gone:  # it has said why
            raise SystemError(f"packet process {self._child.id} has ended") from None
        self._thread.start()

    def open(self, domain: str, group: GroupDescription, address: str, tell: Tell) -> GroupAtWork:
        """See `Driver.open`."""
        opened = _GroupElsewhere(self, group, address, tell)
        before, self._groups = self._groups, {**self._groups, group.group_id: opened}  # it may tell something at once
        self.send(Open(domain, group))
        answer = self._answer()
        if isinstance(answer, NotOpened):
            self._groups = before
            raise answer.refused
        opened.socket_path = answer.socket_path
        self.names[group.name] += 1
        return opened

    def close_group(self, group: GroupDescription) -> None:
        """Returns when its sockets are free."""
        self.send(Close(group.group_id))
        self._answer()
        self.names[group.name] -= 1
        self._groups = {group_id: each for group_id, each in self._groups.items() if group_id != group.group_id}

    def close(self) -> None:
        """Ends the process, and what is open there."""
        self._closing = True
        self._child.hang_up()
        self._thread.join()
        self._child.end()

    def send(self, message: Any) -> None:
        """To the process. From any thread."""
        with self._sending:
            send(self._child.channel, message)

    def _answer(self) -> Any:
        try:
            return self._answers.get(timeout=ANSWERED_WITHIN)
        except queue.Empty:
            raise SystemError(f"packet process {self._child.id} doesn't answer") from None

    def _hear(self) -> None:
        try:
            while True:
                self._take(self._next())
        except Gone:
            if not self._closing:
                raise SystemError(f"packet process {self._child.id} has ended") from None

    def _next(self) -> Any:
        for _ in range(LOOKS):
            if self._child.channel.poll(1.0):
                return receive(self._child.channel)
        raise SystemError(f"packet process {self._child.id} hangs")

    def _take(self, message: Any) -> None:
        match message:
            case Told():
                self._groups[message.group_id].tell(message.event)
            case Counted():
                self.counted = message.counters
                self._answer_count()
            case NotMoved():
                self._groups[message.group_id].not_moved(message.refused)
            case _:
                self._answers.put(message)

    def _answer_count(self) -> None:
        """Without waiting, neither for who is sending something nor for room: while this thread waits nothing is heard,
        and the process may be waiting for that. Whatever else is sent is an answer, too."""
        if self._sending.acquire(blocking=False):
            try:
                if self._child.has_room:
                    send(self._child.channel, Seen())
            finally:
                self._sending.release()


class _GroupElsewhere:
    """A group that is open in a packet process: `GroupAtWork`. Its counters are half a second old."""

    def __init__(self, process: _Process, group: GroupDescription, address: str, tell: Tell) -> None:
        self._process = process
        self._group = group
        self._address = address
        self.tell = tell
        self.socket_path = ""
        self.not_moved: Callable[[Refused], None] = _ignore
        self._closed = False

    @property
    def engine(self) -> GroupEngine:
        raise Refused("driver", "packet-processes", "A group in a packet process isn't relayed into others.")

    @property
    def largest_payload(self) -> int:
        return largest_of(self._group, self._address)

    def counters(self) -> Mapping[str, int]:
        return self._process.counted.get(self._group.group_id, {})

    def control(self, effect: Any) -> None:
        if not self._closed:
            self._process.send(Control(self._group.group_id, effect))

    def move(self, address: str, failed: Callable[[Refused], None]) -> None:
        self._address, self.not_moved = address, failed
        self._process.send(MoveGroup(self._group.group_id, address))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._process.close_group(self._group)


def _ignore(_: Refused) -> None:
    """Nothing was asked for."""
