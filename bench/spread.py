"""More than one core: two loud groups of one host, in the MSM's own process and spread over two packet processes.

An application for each group says as much as is taken; nobody hears it. The three or four processes share what cores
there are: with two cores the applications take their part of the second one.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.two_hosts import Fork, Link, two_hosts
from bench.ways import PORT
from mcsa.keys import GroupKey
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.shell.local_batches import BatchedApplication
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.drivers import Driver, DriverSettings
from services.msm.drivers.relay import RelayDriver
from services.msm.events import InstallEpoch, SetRoster, SwitchSending
from services.msm.packet_processes import PacketProcesses

GROUPS = 2
PACKETS = 300_000  # of each group
AT_ONCE = 45  # payloads that an application says in one go
SIZES = (1_400, 200)  # bytes
ROUNDS = 3

FIGURES = {
    f"{how}_{size}": what
    for size in SIZES
    for how, what in (
        ("own_kpps", "two groups at once, application to network, both in the MSM's own process"),
        ("spread_kpps", "the same in two packet processes"),
        ("ratio", "of the two, in the same round: the median"),
    )
} | {"network": "what carried it"}

_DOMAIN, _EPOCH, _SENDER = "bench", 1, 1
_WITHIN = 60.0  # seconds


def run() -> dict[str, Any]:
    """Rounds of both in turn, the best of each, and the median of their ratios."""
    figures: dict[str, Any] = {}
    with two_hosts() as link:
        for size in SIZES:
            own, spread = [], []
            for _ in range(ROUNDS):
                own.append(_measured(link, size, RelayDriver))
                spread.append(_measured(link, size, lambda settings: PacketProcesses("relay", settings, GROUPS)))
            ratios = sorted(there / here for here, there in zip(own, spread, strict=True))
            figures[f"own_kpps_{size}"] = round(max(own))
            figures[f"spread_kpps_{size}"] = round(max(spread))
            figures[f"ratio_{size}"] = round(ratios[len(ratios) // 2], 2)
        return {**figures, "network": link.kind}


def _measured(link: Link, size: int, make: Callable[[DriverSettings], Driver]) -> float:
    """Thousands of packets a second, both groups together: their MSM has a process of its own, as it has in life."""
    answers, answer = Fork.Pipe(duplex=False)
    ends, end = Fork.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:

        def serve() -> None:
            with ExitStack() as opened:
                answer.send(_open(link, Path(folder), make, opened))
                ends.recv()

        msm = Fork.Process(target=serve)
        msm.start()
        sockets = answers.recv()
        applications = [Fork.Process(target=_say, args=(path, size), daemon=True) for path in sockets]
        started_at = time.perf_counter()
        for application in applications:
            application.start()
        for application in applications:
            application.join(_WITHIN)
        took = time.perf_counter() - started_at
        end.send(None)
        msm.join(_WITHIN)
    return GROUPS * PACKETS / took / 1_000


def _open(link: Link, folder: Path, make: Callable[[DriverSettings], Driver], opened: ExitStack) -> list[Path]:
    """The local sockets of groups that are open on the sender's host, with keys and without a domain."""
    host, policy = link.laboratory["sender"], complete_policy(GroupPolicy())
    paths = []
    with host.inside():
        driver = make(DriverSettings(Networks.only(host.address), folder))
        opened.callback(driver.close)
        for number in range(GROUPS):
            group_id, address = bytes([number + 1]) * 16, link.laboratory.plan.group(10 + number)
            described = GroupDescription(
                group_id=group_id, name="media", address=address, port=PORT, ttl=1, policy=policy
            )
            group = driver.open(_DOMAIN, described, _ignore)
            opened.callback(group.close)
            group.control(InstallEpoch(group_id, _EPOCH, GroupKey(os.urandom(32))))
            group.control(SetRoster(group_id, {_SENDER: host.address}, _SENDER, None))
            group.control(SwitchSending(group_id, _EPOCH, _SENDER))
            paths.append(Path(group.socket_path))
    time.sleep(0.2)  # they are carried out by other threads
    return paths


def _say(path: Path, size: int) -> None:
    payloads = [bytes(size)] * AT_ONCE
    with BatchedApplication(path) as application:
        for _ in range(PACKETS // AT_ONCE):
            application.send(payloads, PORT, PORT)


def _ignore(_: Any) -> None:
    """There is no core to tell."""
