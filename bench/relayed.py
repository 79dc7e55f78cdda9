"""From application to application through the `relay` driver on both hosts: four processes, two to a core."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.two_hosts import SILENCE, Fork, Link, cores
from bench.ways import PORT, Receive, Send
from mcsa.keys import GroupKey
from mcsa.laboratory.namespaces import Host
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.shell.local_batches import BatchedApplication
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.drivers import DriverSettings, driver_named
from services.msm.events import InstallEpoch, SetRoster, SwitchSending

_DOMAIN, _GROUP_ID, _EPOCH = "bench", bytes(16), 1
_SPEAKER, _HEARER = 1, 2  # sender IDs
_WITHIN = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class RelayedGroup:
    """A group that is open on both hosts: the local socket of each."""

    speaking: Path
    hearing: Path

    def sender(self) -> Send:
        """An application on one host: sends payloads."""
        application = BatchedApplication(self.speaking)
        return lambda payloads: application.send(payloads, PORT, PORT)

    def receiver(self) -> Receive:
        """An application on the other; `BlockingIOError` after a while of silence."""
        application = BatchedApplication(self.hearing)
        timeout = struct.pack("ll", 0, int(SILENCE * 1e6))
        application.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)

        def receive(collect: Callable[[Iterable[bytes]], None]) -> None:
            collect(application.receive().payloads)

        return receive


@contextmanager
def relayed_group(link: Link) -> Iterator[RelayedGroup]:
    """Opens a group in an MSM's packet path on either host, each in its own process, with keys and without a domain."""
    key, address = GroupKey(os.urandom(32)), link.laboratory.plan.group(2)
    with tempfile.TemporaryDirectory() as folder:
        hearing = _Path(link, "receiver", _HEARER, key, address, Path(folder), cores()[-1])
        speaking = _Path(link, "sender", _SPEAKER, key, address, Path(folder), cores()[0])
        try:
            link.laboratory.await_membership(link.laboratory["receiver"], address)
            yield RelayedGroup(speaking.socket_path, hearing.socket_path)
        finally:
            speaking.stop()
            hearing.stop()


class _Path:
    """One host's packet path, in its process."""

    def __init__(
        self, link: Link, name: str, number: int, key: GroupKey, address: str, folder: Path, core: int
    ) -> None:
        hosts = {_SPEAKER: link.laboratory["sender"].address, _HEARER: link.laboratory["receiver"].address}
        told, self._tell = Fork.Pipe(duplex=False)
        answers, answer = Fork.Pipe(duplex=False)
        host = link.laboratory[name]

        def serve() -> None:
            os.sched_setaffinity(0, {core})
            _serve(host, address, folder / name, number, hosts, key, told, answer)

        self._process = Fork.Process(target=serve, daemon=True)
        self._process.start()
        if not answers.poll(_WITHIN):
            raise TimeoutError("a packet path didn't open")
        self.socket_path = Path(answers.recv())

    def stop(self) -> None:
        self._tell.send(None)
        self._process.join(_WITHIN)


def _serve(
    host: Host,
    address: str,
    folder: Path,
    number: int,
    hosts: dict[int, str],
    key: GroupKey,
    told: Connection,
    answer: Connection,
) -> None:
    policy = complete_policy(GroupPolicy())
    group = GroupDescription(group_id=_GROUP_ID, name="media", address=address, port=PORT, ttl=1, policy=policy)
    with host.inside():
        driver = driver_named("relay")(DriverSettings(Networks.only(host.address), folder))
        opened = driver.open(_DOMAIN, group, _ignore)
    opened.control(InstallEpoch(_GROUP_ID, _EPOCH, key))
    opened.control(SetRoster(_GROUP_ID, hosts, number, None))
    opened.control(SwitchSending(_GROUP_ID, _EPOCH, number))
    time.sleep(0.1)  # they are carried out by another thread
    answer.send(opened.socket_path)
    told.recv()
    opened.close()
    driver.close()


def _ignore(_: Any) -> None:
    """There is no core to tell."""
