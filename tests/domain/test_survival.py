"""The Authorizer and the broker killed at random moments, with hosts coming and going and packets flowing: nobody
loses the conference. Real processes, real packets, a real JetStream."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.domain.running import RunningDomain

USERS = ("alice", "bob", "carol")


@asynccontextmanager
async def talking(domain: RunningDomain, *users: str) -> AsyncIterator[None]:
    """Lines between these the whole time, ten a second; each has to be heard by the others in the end."""
    over = asyncio.Event()
    said: list[tuple[str, str]] = []

    async def talk() -> None:
        while not over.is_set():
            for user in users:
                said.append((user, f"line {len(said)}"))
                await domain.conferences[user].send(said[-1][1])
            await asyncio.sleep(0.1)

    task = asyncio.create_task(talk())
    yield
    over.set()
    await task
    for user, line in said[-len(users) :]:
        for other in set(users) - {user}:
            await domain.hears(other, line)
    assert len(said) > 10
    for user in users:
        lines = [line for speaker, line in said if speaker != user]
        heard = set(domain.heard[user])
        assert len([line for line in lines if line in heard]) > 0.9 * len(lines)


async def together(domain: RunningDomain, *users: str) -> bool:
    """All of them are in the same epoch of the control group."""
    groups = [(await domain.groups(user)).get("control") for user in users]
    return all(group is not None and group.state == "member" for group in groups) and (
        len({group.epoch for group in groups if group is not None}) == 1
    )


def alarms(domain: RunningDomain) -> str:
    """What the Authorizer has raised since it was started last."""
    return "\n".join(
        line for line in domain.processes.services["authorizer"].written().splitlines() if '"alarm"' in line
    )


async def test_an_authorizer_killed_at_random_moments_while_hosts_come_and_go_loses_nobody(tmp_path: Path) -> None:
    chance = random.Random(7)
    async with RunningDomain(tmp_path, USERS) as domain:
        await domain.convene(*USERS, wait=1.0)
        await domain.join("bob")
        await domain.keyed("alice", "bob")
        authorizer = domain.processes.services["authorizer"]
        async with talking(domain, "alice", "bob"):
            for _ in range(2):
                coming = asyncio.create_task(domain.join("carol"))
                await asyncio.sleep(chance.uniform(0.0, 0.4))
                await asyncio.to_thread(_restart, authorizer)
                await coming
                going = asyncio.create_task(domain.conferences["carol"].leave())
                await asyncio.sleep(chance.uniform(0.0, 0.1))
                await asyncio.to_thread(_restart, authorizer)
                await going
            await domain.until(lambda: together(domain, "alice", "bob"), 10.0)
        assert alarms(domain) == ""


def _restart(service) -> None:
    service.kill()
    service.restart()


async def test_a_broker_that_was_killed_comes_back_with_its_store_and_nobody_registers_again(tmp_path: Path) -> None:
    async with RunningDomain(tmp_path) as domain:
        await domain.gather()
        before = await domain.groups("alice")
        async with talking(domain, "alice", "bob"):
            await asyncio.to_thread(domain.processes.broker.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(domain.processes.broker.start)
            await asyncio.to_thread(_restart, domain.processes.services["authorizer"])
            await domain.until(lambda: _later(domain, before["control"].epoch), 15.0)
        assert (await domain.groups("alice"))["control"].sender_id == before["control"].sender_id
        assert alarms(domain) == ""


async def test_over_an_older_copy_of_jetstream_members_register_again_by_themselves(tmp_path: Path) -> None:
    async with RunningDomain(tmp_path) as domain:
        broker, authorizer = domain.processes.broker, domain.processes.services["authorizer"]
        await domain.convene("alice", "bob")
        store = next(broker.directory.rglob("streams")).parents[1]
        shutil.copytree(store, tmp_path / "older")
        await domain.join("bob")
        await domain.keyed()
        before = await domain.groups("bob")
        await asyncio.sleep(1.5)  # a beacon of the last epoch
        async with talking(domain, "alice", "bob"):
            authorizer.kill()
            await asyncio.to_thread(broker.stop)
            shutil.rmtree(store)
            shutil.copytree(tmp_path / "older", store)
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(authorizer.restart)
            await domain.until(lambda: _later(domain, before["control"].epoch), 15.0)
            await domain.until(lambda: together(domain, "alice", "bob"), 20.0)
        assert (await domain.groups("bob"))["control"].sender_id > before["control"].sender_id
        assert "rolled-back" in alarms(domain) or "group-log" in alarms(domain)


async def _later(domain: RunningDomain, epoch: int) -> bool:
    return await together(domain, "alice", "bob") and (await domain.groups("alice"))["control"].epoch > epoch
