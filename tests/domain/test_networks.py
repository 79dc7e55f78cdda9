"""Conferences on networks as they are: groups of IPv6, groups with one sender."""

from __future__ import annotations

import asyncio
import ipaddress
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcsa.domain.processes import INFRASTRUCTURE
from mcsa.laboratory.capture import Capture
from mcsa.laboratory.packets import classify, parse_packet, parse_pcap
from mcsa.laboratory.routed import RoutedLaboratory
from mcsa.shell.local_frames import LARGEST_FRAME, OutgoingFrame, connect_frames, parse_incoming
from tests.domain.running import HOSTS, RunningDomain
from tests.judges import require_program

PORT = 5004
WITHIN = 10.0  # seconds that only a broken program needs


@contextmanager
def application(domain: RunningDomain, user: str) -> Iterator[socket.socket]:
    """At the audio group's local socket."""
    with connect_frames(domain.conferences[user].socket("audio")) as door:
        door.settimeout(WITHIN)
        yield door


def say(door: socket.socket, payload: bytes) -> None:
    door.send(OutgoingFrame(PORT, PORT, payload).encode())


async def passes(speaks: socket.socket, hears: socket.socket, payload: bytes) -> None:
    """Said until it is heard: a group that was just joined, or joined again, may not be forwarded yet."""
    for _ in range(50):
        say(speaks, payload)
        ready, _, _ = await asyncio.to_thread(select.select, [hears], [], [], 0.2)
        if ready:
            assert parse_incoming(hears.recv(LARGEST_FRAME)).payload == payload
            return
    pytest.fail("it was never heard")


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
            await passes(speaks, hears, b"sound")
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
            await passes(alice, bob, b"from the sender")


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
async def test_two_subnets_with_a_multicast_router_between_them_hold_one_conference(tmp_path: Path, ipv6: bool) -> None:
    """Announcement, updates, control and audio cross the router; after the broker's end nothing else is left."""
    require_program("smcrouted")
    async with RunningDomain(tmp_path, ipv6=ipv6, beyond=("bob",)) as domain:
        laboratory = domain.laboratory
        assert isinstance(laboratory, RoutedLaboratory)
        capture = Capture(laboratory["beta"], tmp_path / "beta.pcap")
        await domain.gather(media=True)
        domain.processes.broker.kill()
        alice, bob = domain.conferences["alice"], domain.conferences["bob"]
        before = alice.state.key_epoch
        await alice.call()
        await domain.keyed(after=before)
        await bob.send("from beyond the router")
        await domain.hears("alice", "from beyond the router")
        with application(domain, "alice") as speaks, application(domain, "bob") as hears:
            await passes(speaks, hears, b"sound")
        capture.stop()
        forwarded = "\n".join(laboratory.forwarded())
        frames = [frame for _, frame in parse_pcap(capture.output.read_bytes()) if classify(frame) == "esp-udp"]
        for group in alice.state.groups:
            for name in (HOSTS["alice"], INFRASTRUCTURE):  # talk and sound; what the Authorizer says
                source = laboratory[name].address_for(group.address)
                assert f"({source},{group.address})" in forwarded
                arrived = [frame for frame in frames if _ends(frame) == (source, group.address)]
                assert {_hops(frame) for frame in arrived} == {group.ttl - 1}


def _ends(frame: bytes) -> tuple[str, str]:
    packet = parse_packet(frame)
    assert packet is not None
    return packet.source, packet.destination


def _hops(frame: bytes) -> int:
    """Time to live, or hop limit."""
    return frame[22] if frame[12:14] == b"\x08\x00" else frame[21]


async def _counted(domain: RunningDomain, user: str, cause: str) -> int:
    return (await domain.groups(user))["audio"].packets.get(cause, 0)
