"""Conferences on networks as they are: groups of IPv6, groups with one sender."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcsa.domain.processes import INFRASTRUCTURE
from mcsa.shell.local import connect
from mcsa.shell.local_frames import LARGEST_FRAME, OutgoingFrame, parse_incoming
from tests.domain.running import HOSTS, RunningDomain

PORT = 5004
WITHIN = 10.0  # seconds that only a broken program needs


@contextmanager
def application(domain: RunningDomain, user: str) -> Iterator[socket.socket]:
    """At the audio group's local socket."""
    with connect(domain.conferences[user].socket("audio"), socket.SOCK_SEQPACKET) as door:
        door.settimeout(WITHIN)
        yield door


def say(door: socket.socket, payload: bytes) -> None:
    door.send(OutgoingFrame(PORT, PORT, payload).encode())


async def hear(door: socket.socket) -> bytes:
    return parse_incoming(await asyncio.to_thread(door.recv, LARGEST_FRAME)).payload


async def test_a_conference_in_groups_of_ipv6(tmp_path: Path) -> None:
    async with RunningDomain(tmp_path, ipv6=True) as domain:
        await domain.gather(media=True)
        alice = domain.conferences["alice"]
        for group in (await domain.groups("bob")).values():
            assert ipaddress.ip_address(group.group.address) in domain.laboratory.plan.groups6
            assert group.group.ttl == 8  # in a place of ours, since SDP has none
        await alice.send("hello over IPv6")
        await domain.hears("bob", "hello over IPv6")
        with application(domain, "alice") as speaks, application(domain, "bob") as hears:
            say(speaks, b"sound")
            assert await hear(hears) == b"sound"
        before = alice.state.key_epoch
        await alice.eject(domain.id_of("bob"))
        await domain.keyed("alice", after=before)


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
async def test_a_group_with_one_sender_is_source_specific_from_description_to_reports(
    tmp_path: Path, ipv6: bool
) -> None:
    async with RunningDomain(tmp_path, ipv6=ipv6) as domain:
        await domain.gather(media=True, one_sender=True)
        groups = {group.name: group for group in domain.conferences["bob"].state.groups}
        address = groups["audio"].address
        assert address.startswith("ff35:" if ipv6 else "232.")
        laboratory = domain.laboratory
        sources = [laboratory[name].address_for(address) for name in (HOSTS["alice"], INFRASTRUCTURE)]
        assert list(groups["audio"].sources) == sources  # as bob read it in SDP
        assert not groups["control"].sources
        for source in sources:
            laboratory.await_membership(laboratory[HOSTS["bob"]], address, source)
        with application(domain, "alice") as alice, application(domain, "bob") as bob:
            say(bob, b"from a listener")
            await domain.until(lambda: _counted(domain, "bob", "unsent.not-a-source"), WITHIN)
            say(alice, b"from the sender")
            assert await hear(bob) == b"from the sender"


async def _counted(domain: RunningDomain, user: str, cause: str) -> int:
    return (await domain.groups(user))["audio"].packets.get(cause, 0)
