"""What dies, and what doesn't: real processes, killed; a real network, cut."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mcsa.sap.packet import PORT as SAP_PORT
from tests.domain.running import RunningDomain


async def test_with_the_broker_dead_talk_and_a_run_of_the_key_scheme_go_on(tmp_path: Path) -> None:
    async with RunningDomain(tmp_path) as domain:
        await domain.gather()
        first = domain.conferences["alice"].state.key_epoch
        domain.processes.broker.kill()
        await domain.conferences["alice"].send("no broker")
        await domain.hears("bob", "no broker")
        await domain.conferences["alice"].call()
        assert await domain.keyed(after=first) > first
        await domain.conferences["bob"].send("under a new key")
        await domain.hears("alice", "under a new key")


async def test_with_the_groups_packets_dropped_the_conference_fails_with_a_reason(tmp_path: Path) -> None:
    async with RunningDomain(tmp_path) as domain:
        alice = await domain.convene("alice", "bob")
        domain.laboratory.faults.drop_group(alice.state.groups[0].address)
        bob = await domain.join("bob")
        state = await alice.wait_for("active", within=30.0)
        assert state.state == "failed"
        assert "nobody answered the conference-call in the control group" in state.reason
        state = await bob.wait_for("active", within=40.0)
        assert state.state == "failed"
        assert "the Coordinator was not heard in the control group" in state.reason


async def test_with_sap_dropped_on_the_bridge_nothing_appears_until_it_passes_again(tmp_path: Path) -> None:
    async with RunningDomain(tmp_path) as domain:
        domain.laboratory.faults.drop_udp_port(SAP_PORT)
        await domain.convene("alice", "bob")
        await asyncio.sleep(2.0)  # announcements go out each half second
        assert await domain.connections["bob"].sessions() == []
        assert await domain.connections["alice"].sessions() == []
        domain.laboratory.faults.clear()
        await domain.until(lambda: domain.sees("bob"), 10.0)


async def test_killed_services_come_back_by_themselves_and_nobody_notices_for_long(tmp_path: Path) -> None:
    """In turn: an MSM, a CSM, the Authorizer, the directory. Each is started anew, as systemd or Kubernetes would."""
    async with RunningDomain(tmp_path) as domain:
        await domain.gather()
        epoch = domain.conferences["alice"].state.key_epoch
        services = domain.processes.services

        services["msm-beta"].kill()
        services["msm-beta"].restart()
        await domain.until(lambda: _is_member(domain, "bob"), 20.0)
        await domain.conferences["bob"].send("my MSM is new")
        await domain.hears("alice", "my MSM is new")

        services["csm-beta"].kill()
        services["csm-beta"].restart()
        await domain.reconnect("bob")
        await domain.attach("bob")
        epoch = await domain.keyed(after=epoch)
        await domain.conferences["alice"].send("welcome back")
        await domain.hears("bob", "welcome back")

        before = (await domain.groups("alice"))["control"].epoch
        services["authorizer"].kill()
        services["authorizer"].restart()
        await domain.until(lambda: _registered_anew(domain, before), 20.0)
        await domain.conferences["bob"].send("new group key")
        await domain.hears("alice", "new group key")
        assert domain.conferences["alice"].state.key_epoch == epoch

        services["sd"].kill()
        services["sd"].restart()
        await domain.conferences["alice"].send("still here")
        await domain.hears("bob", "still here")


async def _is_member(domain: RunningDomain, user: str) -> bool:
    return all(group.state == "member" for group in (await domain.groups(user)).values()) and bool(
        await domain.groups(user)
    )


async def _registered_anew(domain: RunningDomain, before: int) -> bool:
    states = [(await domain.groups(user))["control"] for user in ("alice", "bob")]
    return all(group.state == "member" and group.epoch > before for group in states) and (
        len({group.epoch for group in states}) == 1
    )
