"""A conference whose hosts have the driver `tun`, while networks come and go: unmodified applications talk the whole
time, and what they say is never on the physical interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcsa.shell.nftables import table_name
from tests.domain.plain_applications import PlainApplication, Tap
from tests.domain.running import HOSTS, RunningDomain
from tests.domain.test_changing_networks import ip, said, sender_ids, well
from tests.judges import require_program

WITHIN = 20.0  # seconds that only a broken program needs
families = pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])


@pytest.fixture(autouse=True)
def _rules() -> None:
    require_program("nft")


class Talk:
    """Applications on the hosts of Alice and Bob, and a tap at Bob's."""

    def __init__(self, domain: RunningDomain, alice: PlainApplication, bob: PlainApplication, tap: Tap) -> None:
        self.domain, self.alice, self.bob, self.tap = domain, alice, bob, tap

    async def passes(self) -> None:
        """Both ways, and nothing of it was in the clear so far."""
        for one, other in ((self.alice, self.bob), (self.bob, self.alice)):
            await asyncio.to_thread(one.hears, other, WITHIN)
        assert not self.tap.plaintext()


@asynccontextmanager
async def talking(folder: Path, *, ipv6: bool = False, one_sender: bool = False, **options: Any) -> AsyncIterator[Talk]:
    options = {"driver": "tun", **options}
    async with RunningDomain(folder, ipv6=ipv6, msm_options=options) as domain:
        await domain.gather(media=True, one_sender=one_sender)
        group = (await domain.groups("bob"))["audio"].group.address
        alpha, beta = (domain.laboratory[HOSTS[user]] for user in ("alice", "bob"))
        with (
            Tap(domain.laboratory, beta) as tap,
            PlainApplication(alpha, group) as alice,
            PlainApplication(beta, group) as bob,
        ):
            yield Talk(domain, alice, bob, tap)


@families
async def test_an_interface_that_was_down_carries_applications_again(tmp_path: Path, ipv6: bool) -> None:
    async with talking(tmp_path, ipv6=ipv6) as talk:
        await talk.passes()
        domain = talk.domain
        before, beta = await sender_ids(domain), domain.laboratory[HOSTS["bob"]]
        ip(beta, "link set eth0 down")
        await said(domain, "bob", "ip link set dev eth0 up")
        ip(beta, "link set eth0 up")
        if ipv6:  # the kernel takes it off an interface that goes down
            ip(beta, f"address add {beta.address6}/64 dev eth0 nodad")
        await well(domain, "bob")
        await talk.passes()
        assert await sender_ids(domain) == before


@families
async def test_a_host_with_another_address_carries_applications_again(tmp_path: Path, ipv6: bool) -> None:
    async with talking(tmp_path, ipv6=ipv6, address="eth0 ipv6" if ipv6 else "eth0") as talk:
        await talk.passes()
        domain = talk.domain
        beta, plan = domain.laboratory[HOSTS["bob"]], domain.laboratory.plan
        network = plan.network6 if ipv6 else plan.network
        old, new = beta.address6 if ipv6 else beta.address, str(network[200])
        ip(beta, f"address del {old}/{network.prefixlen} dev eth0")
        if not ipv6:
            await said(domain, "bob", f"no interface has {old}: ip address add")
        ip(beta, f"address add {new}/{network.prefixlen} dev eth0{' nodad' if ipv6 else ''}")

        async def known() -> bool:
            roster = (await domain.groups("alice"))["audio"].roster
            return {entry.address for entry in roster if entry.host.endswith(beta.name)} == {new}

        await domain.until(known, 3 * WITHIN)
        await talk.passes()


@families
@pytest.mark.parametrize("ways", [("down", "up"), ("delete",)], ids=["down and up", "deleted"])
async def test_the_tun_interface_that_an_administrator_took_comes_back(
    tmp_path: Path, ipv6: bool, ways: tuple[str, ...]
) -> None:
    async with talking(tmp_path, ipv6=ipv6) as talk:
        await talk.passes()
        beta = talk.domain.laboratory[HOSTS["bob"]]
        for way in ways:
            ip(beta, "link delete mcsa0" if way == "delete" else f"link set mcsa0 {way}")
            await asyncio.sleep(0.5)
        await talk.passes()

        async def counted() -> int:
            return (await talk.domain.groups("bob"))["audio"].packets.get("tun.interface-restored", 0)

        await talk.domain.until(counted, WITHIN)


@pytest.mark.parametrize(("end", "ipv6"), [("kill", False), ("kill", True), ("stop", False)])
async def test_after_its_end_nothing_is_in_the_clear_and_the_next_msm_takes_over(
    tmp_path: Path, end: str, ipv6: bool
) -> None:
    async with talking(tmp_path, ipv6=ipv6) as talk:
        await talk.passes()
        domain = talk.domain
        msm, beta = domain.processes.services["msm-beta"], domain.laboratory[HOSTS["bob"]]
        await asyncio.to_thread(getattr(msm, end))
        assert "mcsa0" not in beta.run(["ip", "link"])
        await asyncio.sleep(1.0)
        assert not talk.tap.plaintext()
        await asyncio.to_thread(msm.restart)
        await talk.passes()


async def test_without_the_rules_that_it_left_a_killed_msms_applications_are_heard(tmp_path: Path) -> None:
    """On purpose: the tests above can fail."""
    async with talking(tmp_path) as talk:
        await talk.passes()
        domain = talk.domain
        await asyncio.to_thread(domain.processes.services["msm-beta"].kill)
        domain.laboratory[HOSTS["bob"]].run(["nft", "delete", "table", "inet", table_name("mcsa0")])
        await asyncio.sleep(0.2)
        assert talk.tap.plaintext()


@families
async def test_applications_of_a_group_with_one_sender_hear_it_and_nobody_else(tmp_path: Path, ipv6: bool) -> None:
    async with talking(tmp_path, ipv6=ipv6, one_sender=True) as talk:
        domain = talk.domain
        alpha, beta = (domain.laboratory[HOSTS[user]] for user in ("alice", "bob"))
        group = (await domain.groups("bob"))["audio"].group
        with PlainApplication(beta, group.address, alpha.address_for(group.address)) as source_specific:
            for hears in (source_specific, talk.bob):
                await asyncio.to_thread(hears.hears, talk.alice, WITHIN)

        async def counted() -> int:
            return (await domain.groups("bob"))["audio"].packets.get("unsent.not-a-source", 0)

        await domain.until(counted, WITHIN)
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(talk.alice.hears, talk.bob, 1.0)
        assert not talk.tap.plaintext()
