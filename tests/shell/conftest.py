"""A real nats-server, and identities on it."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcsa.broker import (
    Grant,
    auditor_grant,
    authorizer_grant,
    bus_name,
    csm_grant,
    msm_grant,
    operator_grant,
    sd_grant,
    storekeeper_grant,
)
from mcsa.shell.broker_process import BrokerProcess
from mcsa.shell.bus import Bus, Pace
from mcsa.shell.nkeys import NkeySeed

QUICK = Pace(connect_within=2.0, retry_after=0.02, retry_at_most=0.05, ping_every=0.2, drain_within=5.0)


class Domain:
    """A broker with an Authorizer, a directory and two hosts, and whatever buses a test opens."""

    def __init__(self, directory: Path) -> None:
        names = ["authorizer-main", "sd-main", "msm-a", "csm-a", "msm-b", "csm-b", "operator", "storekeeper", "auditor"]
        self.seeds = {name: NkeySeed.draw(os.urandom) for name in names}
        self.broker = BrokerProcess(directory, self.grants())
        self.buses: list[Bus] = []

    def grants(self, *without: str) -> list[Grant]:
        public = {name: seed.public for name, seed in self.seeds.items()}
        grants = [
            authorizer_grant("main", public["authorizer-main"]),
            sd_grant("main", public["sd-main"]),
            *(msm_grant(host, public[bus_name("msm", host)]) for host in "ab"),
            *(csm_grant(host, public[bus_name("csm", host)]) for host in "ab"),
            operator_grant(public["operator"]),
            storekeeper_grant(["main"], public["storekeeper"]),
            auditor_grant(public["auditor"]),
        ]
        return [grant for grant in grants if grant.name not in without]

    def bus(self, name: str, pace: Pace = QUICK, *, url: str | None = None, **options: Any) -> Bus:
        bus = Bus([url or self.broker.url], name, self.seeds[name], pace=pace, **options)
        self.buses.append(bus)
        return bus

    async def open(self, name: str, pace: Pace = QUICK, **options: Any) -> Bus:
        bus = self.bus(name, pace, **options)
        await bus.start()
        return bus


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Domain]:
    domain = Domain(tmp_path / "broker")
    with domain.broker:
        yield domain


@pytest_asyncio.fixture
async def domain(broker: Domain) -> AsyncIterator[Domain]:
    """Fails where anything was left to the loop to complain about: in a service that ends the process."""
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
    yield broker
    await asyncio.gather(*(bus.close() for bus in broker.buses))
    broker.buses.clear()
    await asyncio.sleep(0)
    gc.collect()
    assert unhandled == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def until(happened: Callable[[], object], within: float = 15.0) -> None:
    """Returns once something is so; fails where it isn't within seconds that only a broken program needs."""
    async with asyncio.timeout(within):
        while not happened():  # noqa: ASYNC110 - what happens is a counter, or a flag of another's
            await asyncio.sleep(0.01)
