"""Two domains of real processes on one network: two authorities, brokers, Authorizers and directories."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mcsa.domain.files import DomainFiles
from mcsa.domain.processes import DomainProcesses
from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Laboratory
from mcsa.sdk.conference import Connection, connect
from tests.domain.running import TITLE, RunningDomain

INFRASTRUCTURE = ("infra-a", "infra-b")
BOB = "spiffe://b.example/user/bob"


@asynccontextmanager
async def two_domains(folder: Path) -> AsyncIterator[tuple[Connection, Connection]]:
    """Alice of A on host alpha, Bob of B on host beta, each connected to the CSM of her or his host."""
    a, b = (DomainFiles(folder / name, f"{name}.example") for name in "ab")
    a.add_peer(b)
    b.add_peer(a, take_part=True)
    async with AsyncExitStack() as exits:
        laboratory = exits.enter_context(Laboratory(["alpha", "beta", *INFRASTRUCTURE], INFRASTRUCTURE))
        pools = laboratory.plan.groups.subnets(1)
        connections = []
        for files, host, user, place in ((a, "alpha", "alice", "infra-a"), (b, "beta", "bob", "infra-b")):
            options = {"interval_floor": 0.5}
            exits.enter_context(
                DomainProcesses(
                    laboratory, files, [host], sd_options=options, infrastructure=place, pool=str(next(pools))
                )
            )
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
