"""From `eject` to the last member having the new key: one Authorizer, one broker, an MSM for each member, one machine.

The clock starts before the Coordinator signs the eviction, which goes the usual way: to the MSM of the Coordinator's
host, from there to the Authorizer. It stops for a member when its packet path can open packets of the new epoch. An
ejection has taken as long as its last member: that is stricter than all members' times taken together. The ejected host
comes back with another user before the next ejection, so that always `members` stay and one goes.

With loss each member loses each copy of each group message by itself (see `bench/members.py`). All is on loopback
addresses: a bridge with a hundred hosts would be this machine's work, and not the hosts'.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, time

from bench.coordination import NAME, Coordination, coordination_grant
from bench.members import Board, member_processes
from mcsa.domain.files import AUTHORIZER_NAME, DomainFiles
from mcsa.domain.processes import INFRASTRUCTURE, READY_WITHIN, ServiceProcess, make_stream
from mcsa.identity import Credentials
from mcsa.laboratory.namespaces import Laboratory
from mcsa.policy import DEFAULTS
from mcsa.shell.broker_process import BrokerProcess
from mcsa.shell.bus import Bus
from mcsa.shell.nkeys import NkeySeed
from mcsa.trust import Trust

FIGURES = {
    "p50_ms": "from `eject` to the last member having the new key (milliseconds): the median of the ejections",
    "p99_ms": "the same, 99th percentile of the ejections",
    "missed": "members, of all ejections, that did not have it within 5 s",
    "answered_p50_ms": "of that: until the Coordinator's CSM has the answer; the median",
    "member_p50_ms": "the same for every member, the median",
    "member_p99_ms": "the same for every member, 99th percentile",
    "ejections": "how many were measured",
    "members": "that stayed, each time",
    "processes": "that the MSMs were in",
}
DOMAIN = "bench.example"
EJECTIONS = 100
SECONDS = 32.0  # but no new one after these: 50 s for all, with the making of it
MISSED_AFTER = 5.0  # seconds
PAUSE = 0.2  # seconds before an ejection: the Authorizer repeats the update before it after 50 and 150 ms
PROCESSES = 8


def add_options(parser: argparse.ArgumentParser) -> None:
    """For `bench.__main__`."""
    parser.add_argument("--members", type=int, default=100, help="that stay (1 to 250)")
    parser.add_argument(
        "--loss", type=_fraction, default=0.0, help="part of the rekey packets that is lost: 0.1 is 10%%"
    )
    parser.add_argument("--gkm", default=DEFAULTS.gkm, help="group key management protocol")
    parser.add_argument("--processes", type=int, default=PROCESSES, help="for the MSMs")
    parser.add_argument("--ejections", type=int, default=EJECTIONS)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("a part of one: 0.1 is one packet in ten")
    return value


def run(
    members: int = 100,
    loss: float = 0.0,
    gkm: str = DEFAULTS.gkm,
    processes: int = PROCESSES,
    ejections: int = EJECTIONS,
) -> dict[str, float]:
    """All figures."""
    board = Board(members + 1)
    with _group(members + 1, ejections, loss, processes, board) as group:
        measured = asyncio.run(group.measure(gkm))
    return {**_figures(measured), "members": members, "processes": processes}


@dataclass(frozen=True, slots=True)
class Ejection:
    """Seconds since `eject`: until it was answered, and until each member had the key; None where it never had."""

    answered: float
    members: list[float | None]

    @property
    def last(self) -> float:
        """Until the last member had it."""
        return max(MISSED_AFTER if seconds is None else seconds for seconds in self.members)


def _figures(measured: list[Ejection]) -> dict[str, float]:
    last = [ejection.last for ejection in measured]
    each = [seconds for ejection in measured for seconds in ejection.members]
    had = [MISSED_AFTER if seconds is None else seconds for seconds in each]
    return {
        "p50_ms": _milliseconds(median(last)),
        "p99_ms": _milliseconds(_percentile_99(last)),
        "missed": each.count(None),
        "answered_p50_ms": _milliseconds(median(ejection.answered for ejection in measured)),
        "member_p50_ms": _milliseconds(median(had)),
        "member_p99_ms": _milliseconds(_percentile_99(had)),
        "ejections": len(measured),
    }


def _percentile_99(seconds: list[float]) -> float:
    return quantiles(seconds, n=100, method="inclusive")[98] if len(seconds) > 1 else seconds[0]


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 1)


@contextmanager
def _group(hosts: int, ejections: int, loss: float, processes: int, board: Board) -> Iterator[Group]:
    """Broker, Authorizer and MSMs, running."""
    with (
        tempfile.TemporaryDirectory(prefix="mcsa-bench-") as folder,
        Laboratory([INFRASTRUCTURE], (), "loopback") as net,
    ):
        files, infrastructure = DomainFiles(Path(folder), DOMAIN), net[INFRASTRUCTURE]
        names = [f"host-{number}" for number in range(hosts)]
        seed = NkeySeed.draw(os.urandom)
        grants = [*files.grants(names), coordination_grant(seed)]
        with BrokerProcess(files.folder / "broker", grants, host=infrastructure.address) as broker:
            make_stream(infrastructure, broker.url, files)
            config = files.authorizer_config(broker.url, infrastructure.address, str(net.plan.groups))
            log = files.folder / "logs" / "authorizer.log"
            authorizer = ServiceProcess("authorizer", "services.authorizer", infrastructure, config, log, {})
            authorizer.start()
            # loopback is all of 127.0.0.0/8: more addresses than the laboratory plans
            addresses = [str(IPv4Address(infrastructure.address) + 1 + number) for number in range(hosts)]
            configurations = [
                files.msm_config(name, broker.url, address) for name, address in zip(names, addresses, strict=True)
            ]
            authorizer.wait_ready(monotonic() + READY_WITHIN)
            with member_processes(configurations, processes, loss, board, files.folder / "logs" / "msm.log"):
                yield Group(files, names, ejections, broker.url, seed, board)
            authorizer.stop()
        files.remove_sockets(names)


class Group:
    """A conference of as many users as there are hosts, and users that come in the place of the ejected."""

    def __init__(
        self, files: DomainFiles, hosts: list[str], ejections: int, bus: str, seed: NkeySeed, board: Board
    ) -> None:
        self._hosts = [files.credentials("host", host) for host in hosts]
        self._users = [self._issue(files, number) for number in range(len(hosts) + ejections)]
        self._trust = Trust(DOMAIN, [files.authority.certificate])
        self._authorizer = f"spiffe://{DOMAIN}/authorizer/{AUTHORIZER_NAME}"
        self._bus = bus
        self._seed = seed
        self._board = board

    @staticmethod
    def _issue(files: DomainFiles, number: int) -> Credentials:
        return files.authority.issue("user", f"user-{number}", time())

    async def measure(self, gkm: str) -> list[Ejection]:
        """One ejection after the other."""
        bus = Bus([self._bus], NAME, self._seed)
        await bus.start()
        self._coordination = Coordination(bus, self._trust, self._authorizer, self._users[0], self._hosts)
        await self._coordination.convene(self._users, gkm)
        inside, waiting = self._users[: len(self._hosts)], self._users[len(self._hosts) :]
        epochs = await asyncio.gather(*(self._coordination.join(host, user) for host, user in enumerate(inside)))
        await self._all_have(max(epochs))
        measured, ends_at = list[Ejection](), monotonic() + SECONDS
        for number, newcomer in enumerate(waiting):
            if monotonic() > ends_at:
                break
            host = 1 + number % (len(inside) - 1)  # never the Coordinator's
            measured.append(await self._eject(host, inside[host]))
            inside[host] = newcomer
            await self._all_have(await self._coordination.join(host, newcomer))
        await bus.close()
        return measured

    async def _all_have(self, epoch: int) -> None:
        await self._board.times(range(len(self._hosts)), epoch, monotonic() + MISSED_AFTER)
        await asyncio.sleep(PAUSE)

    async def _eject(self, host: int, user: Credentials) -> Ejection:
        staying = [number for number in range(len(self._hosts)) if number != host]
        started_at = monotonic()
        epoch = await self._coordination.eject(user)
        answered_at = monotonic()
        times = await self._board.times(staying, epoch, started_at + MISSED_AFTER)
        await self._coordination.leave(host, user)
        return Ejection(answered_at - started_at, [None if at is None else at - started_at for at in times])
