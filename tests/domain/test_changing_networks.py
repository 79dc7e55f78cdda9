"""What a network does to a conference while it lasts: down and up, another address, two halves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Host
from mcsa.v1.types_pb2 import GroupPolicy
from tests.domain.running import HOSTS, RunningDomain
from tests.domain.test_networks import application, passes, say

WITHIN = 20.0  # seconds that only a broken program needs


def ip(host: Host, command: str) -> None:
    host.run(["ip", *command.split()])


async def sender_ids(domain: RunningDomain) -> dict[str, dict[str, int]]:
    """By user and group: who registers again has others."""
    return {
        user: {name: state.sender_id for name, state in (await domain.groups(user)).items()} for user in domain.users
    }


async def said(domain: RunningDomain, user: str, sentence: str) -> None:
    """In the log of the MSM of the user's host: without a network nothing else gets out of that host."""

    async def written() -> bool:
        return sentence in domain.processes.services[f"msm-{HOSTS[user]}"].written()

    await domain.until(written, WITHIN)


async def well(domain: RunningDomain, user: str) -> None:
    """As its MSM tells, once it is asked for and can be."""

    async def told() -> bool:
        try:
            return not (await domain.groups(user))["audio"].network
        except Refused:  # the bus hasn't come back yet
            return False

    await domain.until(told, 3 * WITHIN)


async def talk_and_sound_pass(domain: RunningDomain) -> None:
    """Both ways between alice and bob."""
    for one, other in (("alice", "bob"), ("bob", "alice")):
        line = f"{one} at {asyncio.get_running_loop().time()}"
        await domain.conferences[one].send(line)
        await domain.hears(other, line, WITHIN)
        with application(domain, one) as speaks, application(domain, other) as hears:
            await passes(speaks, hears, line.encode())


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
async def test_an_interface_that_was_down_carries_the_conference_again(tmp_path: Path, ipv6: bool) -> None:
    async with RunningDomain(tmp_path, ipv6=ipv6) as domain:
        await domain.gather(media=True)
        before = await sender_ids(domain)
        beta = domain.laboratory[HOSTS["bob"]]
        ip(beta, "link set eth0 down")
        await said(domain, "bob", "ip link set dev eth0 up")
        ip(beta, "link set eth0 up")
        if ipv6:  # the kernel takes it off an interface that goes down
            ip(beta, f"address add {beta.address6}/64 dev eth0 nodad")
        await well(domain, "bob")
        await talk_and_sound_pass(domain)
        assert await sender_ids(domain) == before


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
async def test_a_host_with_another_address_registers_again_and_goes_on(tmp_path: Path, ipv6: bool) -> None:
    options = {"address": "eth0 ipv6" if ipv6 else "eth0"}
    async with RunningDomain(tmp_path, ipv6=ipv6, msm_options=options) as domain:
        await domain.gather(media=True)
        beta, plan = domain.laboratory[HOSTS["bob"]], domain.laboratory.plan
        network = plan.network6 if ipv6 else plan.network
        old, new = beta.address6 if ipv6 else beta.address, str(network[200])
        ip(beta, f"address del {old}/{network.prefixlen} dev eth0")
        if not ipv6:  # there is a link-local one yet, which is taken meanwhile
            await said(domain, "bob", f"no interface has {old}: ip address add")
        ip(beta, f"address add {new}/{network.prefixlen} dev eth0{' nodad' if ipv6 else ''}")

        async def known() -> bool:
            roster = (await domain.groups("alice"))["audio"].roster
            return {entry.address for entry in roster if entry.host.endswith(beta.name)} == {new}

        await domain.until(known, 3 * WITHIN)
        await talk_and_sound_pass(domain)


async def test_two_halves_go_on_and_become_one_again(tmp_path: Path) -> None:
    """Cut for longer than beacons may be silent, for less than a lease: nobody registers again, nobody is out."""
    policy = GroupPolicy(beacon_ms=500, beacon_silence_ms=2_000)
    async with RunningDomain(tmp_path, ("alice", "bob", "carol")) as domain:
        await domain.gather(media=True, policy=policy)
        before, epoch = await sender_ids(domain), domain.conferences["alice"].state.key_epoch
        laboratory = domain.laboratory
        with application(domain, "bob") as bob:
            laboratory.faults.cut_in_two([laboratory[HOSTS["bob"]], laboratory[HOSTS["carol"]]])
            await domain.conferences["alice"].send("into the void")
            await asyncio.sleep(4.0)  # twice what the policy lets a host speak without the Authorizer's word
            say(bob, b"from the other half")
            laboratory.faults.clear()

        async def whole() -> bool:
            try:
                states = {(await domain.groups(user))["audio"].state for user in domain.users}
            except Refused:  # the bus hasn't come back yet
                return False
            return states == {"member"}

        await domain.until(whole, 3 * WITHIN)
        assert (await domain.groups("bob"))["audio"].packets["unsent.paused"] == 1
        for user in ("bob", "carol"):
            await domain.hears(user, "into the void", WITHIN)  # repaired
        await talk_and_sound_pass(domain)
        assert await sender_ids(domain) == before
        assert {domain.conferences[user].state.key_epoch for user in domain.users} == {epoch}
