"""Two domains of real processes on one network: two authorities, brokers, Authorizers and directories."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mcsa.domain.files import DomainFiles
from mcsa.domain.processes import DomainProcesses
from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Laboratory
from mcsa.sdk.conference import Connection, connect
from mcsa.v1.csm_pb2 import ConferenceState
from mcsa.v1.types_pb2 import GroupPolicy
from tests.domain.running import TITLE, RunningDomain

INFRASTRUCTURE = ("infra-a", "infra-b")
BOB = "spiffe://b.example/user/bob"


@asynccontextmanager
async def two_domains(folder: Path, *, subordinate: bool = False) -> AsyncIterator[tuple[Connection, Connection]]:
    """Alice of A on host alpha, Bob of B on host beta, each connected to the CSM of her or his host. `subordinate`: B's
    Authorizer keys groups of A's conferences for B's hosts."""
    a, b = (DomainFiles(folder / name, f"{name}.example") for name in "ab")
    a.add_peer(b)
    b.add_peer(a, take_part=True)
    if subordinate:
        a.add_subordinate(b)
    async with AsyncExitStack() as exits:
        laboratory = exits.enter_context(Laboratory(["alpha", "beta", *INFRASTRUCTURE], INFRASTRUCTURE))
        pools = laboratory.plan.groups.subnets(1)
        connections = []
        for files, host, user, place in ((a, "alpha", "alice", "infra-a"), (b, "beta", "bob", "infra-b")):
            options = {"interval_floor": 0.5}
            processes = exits.enter_context(
                DomainProcesses(
                    laboratory, files, [host], sd_options=options, infrastructure=place, pool=str(next(pools))
                )
            )
            if subordinate and files is a:
                b.add_home(a, processes.broker.url)
            socket = files.sockets(host) / "csm.sock"
            connection = connect(user=files.credentials_path("user", user), socket=socket)
            connections.append(await exits.enter_async_context(connection))
        yield connections[0], connections[1]


async def test_a_host_of_b_hears_of_a_conference_of_a_and_asks_its_own_authorizer(tmp_path: Path) -> None:
    """Which doesn't know it, as long as it is no subordinate."""
    async with two_domains(tmp_path) as (alice, bob):
        conference = await alice.convene(TITLE, acceptable_users=[BOB], wait=0.0)

        async def heard() -> bool:
            return any(session.title == TITLE for session in await bob.sessions())

        await RunningDomain.until(heard, 10.0)
        (session,) = [session for session in await bob.sessions() if session.title == TITLE]
        assert session.authorizer == "spiffe://a.example/authorizer/main"
        assert session.remark == "its Authorizer does not know it, or is out of reach"
        with pytest.raises(Refused) as refused:
            await bob.join(conference.id)
        assert refused.value.code == "unverified-session"


async def test_two_domains_with_two_brokers_and_two_authorizers_hold_one_conference(tmp_path: Path) -> None:
    async with two_domains(tmp_path, subordinate=True) as (alice, bob):
        policy = GroupPolicy(gkm="kd")
        convened = await alice.convene(TITLE, acceptable_users=[BOB], wait=0.0, policy=policy)

        async def verified() -> bool:
            return any(session.title == TITLE and session.verified for session in await bob.sessions())

        await RunningDomain.until(verified, 15.0)
        joined = await bob.join(convened.id)

        async def agreed() -> bool:
            states = [convened.state, joined.state]
            return all(state.state == "active" for state in states) and len(set(_fingerprints(states))) == 1

        await RunningDomain.until(agreed, 20.0)
        await joined.send("from the other domain")
        async with asyncio.timeout(10.0):
            async for message in convened:
                if message.user == BOB:
                    break
        assert message.text == "from the other domain"
        await convened.eject(BOB)

        async def out() -> bool:
            return joined.state.state == "failed"

        await RunningDomain.until(out, 10.0)
        assert "thrown out" in joined.state.reason


def _fingerprints(states: list[ConferenceState]) -> list[str]:
    return [state.key_fingerprint for state in states]
