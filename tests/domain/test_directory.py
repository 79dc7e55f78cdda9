"""Announcements of real processes: they end though their MSM was killed, and a conference in use moves elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mcsa.sap.packet import PORT, SapPacket
from mcsa.sap.scopes import LOCAL
from mcsa.shell.multicast import MulticastListener
from tests.domain.running import TITLE, RunningDomain
from tests.sap.parts import foreign


async def test_what_a_killed_msm_had_announced_is_withdrawn_by_the_next(tmp_path: Path) -> None:
    async with RunningDomain(tmp_path) as domain:
        await domain.gather()
        services = domain.processes.services
        for name in ("msm-alpha", "sd"):  # neither remembers more than what is in its folder
            services[name].kill()
            services[name].restart()
        await domain.until(lambda: domain.sees("bob"), 20.0)
        await domain.conferences["alice"].leave()

        async def ended() -> bool:
            return [session.title for session in await domain.connections["bob"].sessions()] == []

        await domain.until(ended, 20.0)


async def test_a_conference_in_use_moves_and_everybody_follows(tmp_path: Path) -> None:
    async with RunningDomain(tmp_path) as domain:
        await domain.gather(media=True)
        alice, bob = domain.conferences["alice"], domain.conferences["bob"]
        before = {group.address for group in alice.state.groups}
        moved = {group.address for group in await alice.move()}
        assert len(moved) == 2 and not moved & before

        async def followed() -> bool:
            return all({group.address for group in one.state.groups} == moved for one in (alice, bob))

        await domain.until(followed, 20.0)
        for host in ("alpha", "beta"):
            for address in moved:
                domain.laboratory.await_membership(domain.laboratory[host], address)
        await domain.keyed()
        await bob.send("here we are")
        await domain.hears("alice", "here we are")

        async def announced() -> bool:
            sessions = [one for one in await domain.connections["bob"].sessions() if one.title == TITLE]
            places = [{group.address for group in session.groups} for session in sessions if session.verified]
            return places == [moved] and len(sessions) == 1

        await domain.until(announced, 20.0)


async def test_addresses_that_others_announce_are_left_to_them(tmp_path: Path) -> None:
    """With all but two of a pool taken, it is those two."""
    async with RunningDomain(tmp_path) as domain:
        beta = domain.laboratory["beta"]
        with beta.inside():
            sender = MulticastListener([LOCAL], PORT, beta.address)
        pool = list(domain.laboratory.plan.groups)
        claims = pool[: len(pool) - 2] if len(pool) <= 1_000 else pool[:900]
        with sender:
            for first in range(0, len(claims), 60):
                several = claims[first : first + 60]
                text = foreign("taken", session=first + 1).replace(
                    b"239.255.7.9/5", f"{several[0]}/5/{len(several)}".encode()
                )
                sender.send(SapPacket(beta.address, first + 1, text).encode(), LOCAL)
            await asyncio.sleep(0.5)
            alice = await domain.convene("alice", media=True)
        assert not {group.address for group in alice.state.groups} & {str(address) for address in claims}
