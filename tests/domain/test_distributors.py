"""Real processes: a join that a member serves while the Authorizer is stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from mcsa.v1.msm_pb2 import GroupState
from mcsa.v1.types_pb2 import GroupPolicy
from tests.domain.running import TITLE, RunningDomain


async def test_a_host_joins_at_a_member_while_the_authorizer_is_stopped(tmp_path: Path) -> None:
    async with RunningDomain(tmp_path, ("alice", "bob", "carol")) as domain:
        names = [domain.id_of(user) for user in domain.users]
        alice = await domain.connections["alice"].convene(
            TITLE, acceptable_users=names, policy=GroupPolicy(gkm="cbt", beacon_silence_ms=60_000)
        )
        domain._in("alice", alice)
        await domain.join("bob")
        await domain.until(
            lambda: domain.sees("carol"), 10.0
        )  # who asks the Authorizer for the Coordinator's certificate
        authorizer = domain.processes.services["authorizer"].pid
        os.kill(authorizer, signal.SIGSTOP)
        try:
            await domain.join("carol")
            joined = await state_of(domain, "carol")
            assert joined.epoch == (await state_of(domain, "alice")).epoch
            assert joined.state == "member" and joined.sender_id == 0  # nobody has told the others yet

            async def heard() -> bool:
                return (await state_of(domain, "carol")).packets["opened"] > 0

            await domain.until(heard, 10.0)
        finally:
            os.kill(authorizer, signal.SIGCONT)

        async def adopted() -> bool:
            states = [await state_of(domain, user) for user in ("alice", "carol")]
            host = f"spiffe://{domain.files.domain}/host/gamma"
            return states[1].sender_id > 0 and all(host in [e.host for e in state.roster] for state in states)

        await domain.until(adopted, 15.0)
        await domain.keyed(within=30.0)
        await domain.conferences["carol"].send("in by the side door")
        await domain.hears("alice", "in by the side door")


async def state_of(domain: RunningDomain, user: str) -> GroupState:
    return (await domain.groups(user))["control"]
