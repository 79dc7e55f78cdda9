"""Our directory among others': on a host of a laboratory, with what it says and hears."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from mcsa.errors import Rejected
from mcsa.laboratory.namespaces import Host, Laboratory
from mcsa.networks import DEFAULT, Network, Networks
from mcsa.sap.announced import Send
from mcsa.sap.directory import Directory, Place
from mcsa.sap.entry import Entry
from mcsa.sap.packet import PORT
from mcsa.sap.schedule import Pace
from mcsa.sap.scopes import ADDRESSES, IPV6_ADDRESSES
from mcsa.shell.multicast import MulticastListener

SEEN_WITHIN = 25.0  # seconds; VLC announces each five

Start = Callable[[], "subprocess.Popen[bytes]"]


class Listening:
    """A directory and its sockets, IPv4 and IPv6, on a host."""

    def __init__(self, host: Host, *, more: Iterable[str] = (), link: bool = False, interval: float = 0.5) -> None:
        networks = Networks({DEFAULT: Network(host.address), "ff00::/8": Network(host.address6)})
        self.directory = Directory(Place(networks, link=link), os.urandom, Pace(floor=interval))
        with host.inside():
            self._listeners = [
                MulticastListener([*ADDRESSES, *more], PORT, host.address),
                MulticastListener(IPV6_ADDRESSES, PORT, host.address6),
            ]

    def send(self, sends: list[Send]) -> None:
        """By the socket of its family."""
        for one in sends:
            self._listeners[":" in one.address].send(one.payload, one.address)

    def hear(self) -> list[str]:
        """Causes of what was rejected of all that waits."""
        causes = []
        for listener in self._listeners:
            while (found := listener.receive()) is not None:
                try:
                    self.directory.arrived(found.payload, found.source, found.group, time.time())
                except Rejected as rejected:
                    causes.append(f"{rejected}: {found.payload!r}")
        return causes

    def until(self, wanted: Callable[[list[Entry]], object]) -> list[Entry]:
        """What is listed once it is as wanted, or the time is over. Nothing that came is rejected."""
        deadline = time.monotonic() + SEEN_WITHIN
        while not wanted(entries := self.directory.sessions(time.time())) and time.monotonic() < deadline:
            time.sleep(0.1)
            causes = self.hear()
            assert not causes, causes
        return entries

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()


@contextmanager
def listening(host: Host, laboratory: Laboratory, *, more: Iterable[str] = ()) -> Iterator[Listening]:
    """Hears all scopes, and further addresses."""
    ears = Listening(host, more=more)
    try:
        for address in (*ADDRESSES[:3], *more):
            laboratory.await_membership(host, address)
        yield ears
    finally:
        ears.close()


@contextmanager
def announcing(host: Host, sdp: bytes, *, link: bool = False) -> Iterator[Listening]:
    """Our directory on a host, each half second."""
    directory = Listening(host, link=link)
    ended = threading.Event()

    def repeat() -> None:
        directory.send(directory.directory.announce(sdp, time.time())[1])
        while not ended.wait(0.2):
            directory.send(directory.directory.due(time.time()))

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield directory
    finally:
        ended.set()
        thread.join()
        directory.close()


@contextmanager
def running(start: Start) -> Iterator[subprocess.Popen[bytes]]:
    """A program with its children, killed at the end."""
    process = start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def output_until(process: subprocess.Popen[bytes], wanted: str) -> str:
    """What a program says, until it says what is wanted or the time is over."""
    killer = threading.Timer(SEEN_WITHIN, os.killpg, (process.pid, signal.SIGKILL))
    killer.start()
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line.decode(errors="replace"))
        if wanted in said[-1]:
            break
    killer.cancel()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # runuser's child too
    process.wait()
    return "".join(said)
