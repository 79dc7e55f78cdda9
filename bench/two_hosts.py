"""Two hosts, a sender and a receiver, each a process pinned to a core of its own, and one multicast group between."""

from __future__ import annotations

import multiprocessing
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mcsa.laboratory.namespaces import Laboratory
from mcsa.shell.multicast import ESP_PORT, GroupSocket

_WITHIN = 20.0  # seconds that one measurement may take
SILENCE = 0.2  # seconds without a packet after which the sender is taken to be done

Fork = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Link:
    """Where a sender's packets go and where they arrive. Sockets are opened in the parent and used in the children."""

    laboratory: Laboratory
    group: str
    source: str
    sending: socket.socket
    receiving: socket.socket

    @property
    def kind(self) -> str:
        """The kind of network: namespaces or loopback."""
        return self.laboratory.kind

    @property
    def destination(self) -> tuple[str, int]:
        """The group's address and port."""
        return self.group, ESP_PORT


@contextmanager
def two_hosts() -> Iterator[Link]:
    """Network namespaces on a bridge where this machine allows them, loopback otherwise: `Link.kind` says which."""
    with Laboratory(("sender", "receiver")) as laboratory:
        group, loopback = laboratory.plan.group(1), laboratory.kind == "loopback"
        sender, receiver = laboratory["sender"], laboratory["receiver"]
        with sender.inside():
            out = GroupSocket(group, ESP_PORT, sender.address, loop=loopback, bind_group=False)
        with receiver.inside():
            into = GroupSocket(group, ESP_PORT, receiver.address)
        with out, into:
            laboratory.await_membership(receiver, group)
            # The kernel's own timeout: Python's would cost a poll(2) for each packet.
            into.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(SILENCE * 1e6)))
            yield Link(laboratory, group, sender.address, out.socket, into.socket)


def cores() -> list[int]:
    """Those that may be used: the sender has the first, the receiver the last."""
    return sorted(os.sched_getaffinity(0))


def in_two_processes(send: Callable[[], Any], receive: Callable[[Callable[[], None]], Any]) -> tuple[Any, Any]:
    """Runs both and gives what they return. `receive` calls what it is handed when the sender may start."""
    ready_out, ready_in = Fork.Pipe(duplex=False)

    def wait_and_send() -> Any:
        ready_out.recv()
        return send()

    receiver = _start(lambda: receive(lambda: ready_in.send(True)), cores()[-1])
    sender = _start(wait_and_send, cores()[0])
    return _finish(*sender), _finish(*receiver)


def in_one_process(work: Callable[[], Any]) -> Any:
    """Runs it alone in a child on the sender's core."""
    return _finish(*_start(work, cores()[0]))


def _start(work: Callable[[], Any], core: int) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    results, result = Fork.Pipe(duplex=False)

    def pinned() -> None:
        os.sched_setaffinity(0, {core})
        result.send(work())

    process = Fork.Process(target=pinned, daemon=True)
    process.start()
    return process, results


def _finish(process: multiprocessing.process.BaseProcess, results: Connection) -> Any:
    if not results.poll(_WITHIN):
        process.kill()
        raise TimeoutError("a measurement's process gave no result")
    value = results.recv()
    process.join()
    return value
