"""Hosts on two interfaces at once, a control network and a media network: each group is in the one that is its own."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from pathlib import Path

import pytest

from mcsa.domain.processes import INFRASTRUCTURE
from mcsa.errors import Refused
from mcsa.laboratory.capture import Capture
from mcsa.laboratory.namespaces import Host
from mcsa.laboratory.packets import classify, parse_packet, parse_pcap
from mcsa.laboratory.second_network import SECOND, TwoNetworks
from mcsa.sap.packet import PORT as SAP_PORT
from mcsa.shell.local_frames import LARGEST_FRAME, parse_incoming
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from tests.domain.plain_applications import MARK, PlainApplication, Tap
from tests.domain.running import HOSTS, RunningDomain
from tests.domain.test_changing_networks import ip, said, sender_ids, talk_and_sound_pass
from tests.domain.test_networks import application, passes, say
from tests.judges import require_program

MEDIA, AUDIO = "239.193.0.0/16", "239.193.7.7"
MEDIA6, AUDIO6 = "ff15::7:0/112", "ff15::7:7"
WITHIN = 20.0  # seconds that only a broken program needs
PACKETS = 200
OPTIONS: dict[str, dict[str, object]] = {
    "relay": {},
    "packet processes": {"packet_processes": 2},
    "tun": {"driver": "tun"},
}


class TwoNetworkDomain(RunningDomain):
    """Alice, bob and, where she is asked for, carol, whose host is in the first network only."""

    def __init__(
        self,
        folder: Path,
        users: tuple[str, ...] = ("alice", "bob"),
        *,
        groups: str = MEDIA,
        address: str = SECOND,
        infrastructure: list[dict[str, str]] | None = None,
        msm_options: dict[str, object] | None = None,
    ) -> None:
        """`groups` belong to the second network, which hosts are in by `address`, and so are Authorizer and directory,
        unless `infrastructure` says which networks those are in."""
        hosts = [HOSTS[user] for user in users]
        both = [host for host in hosts if host != HOSTS["carol"]] + [INFRASTRUCTURE]
        self.two = TwoNetworks([*hosts, INFRASTRUCTURE], both, (INFRASTRUCTURE,))
        networks = {host: [{"groups": groups, "address": address}] for host in both} | {
            host: [{"groups": groups}] for host in hosts if host not in both
        }
        if infrastructure is not None:
            networks[INFRASTRUCTURE] = infrastructure
        super().__init__(folder, users, laboratory=self.two, networks=networks, msm_options=msm_options)

    def addresses_of(self, name: str, group: str) -> tuple[str, str]:
        """Of a host, in the network that the group is in and in the other one."""
        host = self.two[name]
        first, second = host.address_for(group), self.two.second_address(host, ipv6=":" in group)
        return (second, first) if group in (AUDIO, AUDIO6) else (first, second)


def sent_by_multicast(pcap: Path) -> Counter[tuple[str, str]]:
    """ESP in a capture: how often each source sent to each group."""
    frames = [frame for _, frame in parse_pcap(pcap.read_bytes()) if classify(frame) == "esp-udp"]
    packets = [packet for frame in frames if (packet := parse_packet(frame)) is not None]
    return Counter((packet.source, packet.destination) for packet in packets)


def announced_from(pcap: Path) -> set[str]:
    packets = [packet for _, frame in parse_pcap(pcap.read_bytes()) if (packet := parse_packet(frame)) is not None]
    return {packet.source for packet in packets if packet.destination_port == SAP_PORT}


@pytest.mark.parametrize(
    ("driver", "groups", "audio"),
    [("relay", MEDIA, AUDIO), ("tun", MEDIA, AUDIO), ("packet processes", MEDIA6, AUDIO6)],
    ids=["relay", "tun", "packet processes, IPv6 in the second"],
)
async def test_each_group_is_in_its_own_network_and_in_no_other(
    tmp_path: Path, driver: str, groups: str, audio: str
) -> None:
    async with TwoNetworkDomain(tmp_path, groups=groups, msm_options=OPTIONS[driver]) as domain:
        captures = [
            Capture(laboratory.bridge, tmp_path / f"{number}.pcap")
            for number, laboratory in enumerate((domain.two, domain.two.second))
        ]
        await domain.gather(audio_address=audio)
        await talk_and_sound_pass(domain)
        for capture in captures:
            capture.stop()
        found = {group.name: group for group in domain.conferences["alice"].state.groups}
        assert found["audio"].address == audio
        first, second = (sent_by_multicast(capture.output) for capture in captures)
        assert {group for _, group in first} == {found["control"].address}
        assert {group for _, group in second} == {audio}
        for seen, group in ((first, found["control"].address), (second, audio)):
            for name in (*(HOSTS[user] for user in domain.users), INFRASTRUCTURE):  # the Authorizer's beacons, too
                assert seen[domain.addresses_of(name, group)[0], group], f"{name} in {group}"
        infrastructure = domain.two[INFRASTRUCTURE]
        announced = [announced_from(capture.output) for capture in captures]
        assert announced == [{infrastructure.address}, {domain.two.second_address(infrastructure, ipv6=":" in audio)}]
        for name, state in (await domain.groups("bob")).items():
            own, _ = domain.addresses_of(HOSTS["bob"], state.group.address)
            assert (state.own_address, state.interface) == (own, SECOND if name == "audio" else "eth0")
            assert {entry.address for entry in state.roster if entry.host.endswith(HOSTS["bob"])} == {own}
        assert len([session for session in await domain.connections["bob"].sessions() if session.verified]) == 1


@pytest.mark.parametrize(("groups", "audio"), [(MEDIA, AUDIO), (MEDIA6, AUDIO6)], ids=["IPv4 both", "IPv4 and IPv6"])
async def test_unmodified_applications_are_heard_and_are_in_the_clear_in_neither_network(
    tmp_path: Path, groups: str, audio: str
) -> None:
    require_program("nft")
    async with TwoNetworkDomain(tmp_path, groups=groups, msm_options=OPTIONS["tun"]) as domain:
        await domain.gather(audio_address=audio)
        alpha, beta = (domain.two[HOSTS[user]] for user in domain.users)
        with (
            Tap(domain.two, beta) as first,
            Tap(domain.two.second, beta) as second,
            PlainApplication(alpha, audio) as alice,
            PlainApplication(beta, audio) as bob,
        ):
            for one, other in ((alice, bob), (bob, alice)):
                await asyncio.to_thread(one.hears, other, WITHIN)
            assert not second.plaintext() and not [frame for frame in first.heard() if MARK in frame]


async def test_what_fits_is_by_the_interface_of_the_group(tmp_path: Path) -> None:
    domain = TwoNetworkDomain(tmp_path)
    async with domain:
        for user in domain.users:
            ip(domain.two[HOSTS[user]], f"link set {SECOND} mtu 1400")
        await domain.gather(audio_address=AUDIO)
        found = await domain.groups("bob")
        assert found["control"].largest_payload - found["audio"].largest_payload == 100


async def test_with_the_media_network_down_talk_goes_on_and_sound_comes_back(tmp_path: Path) -> None:
    async with TwoNetworkDomain(tmp_path) as domain:
        await domain.gather(audio_address=AUDIO)
        await talk_and_sound_pass(domain)
        before, beta = await sender_ids(domain), domain.two[HOSTS["bob"]]
        ip(beta, f"link set {SECOND} down")
        await said(domain, "bob", f"ip link set dev {SECOND} up")
        for number in range(20):
            await domain.conferences["bob"].send(f"line {number}")
            await domain.hears("alice", f"line {number}", WITHIN)
        states = await domain.groups("bob")
        assert SECOND in states["audio"].network and not states["control"].network
        assert not [cause for cause in states["control"].packets if cause.startswith("unsent")]
        ip(beta, f"link set {SECOND} up")

        async def well() -> bool:
            return not (await domain.groups("bob"))["audio"].network

        await domain.until(well, WITHIN)
        await talk_and_sound_pass(domain)
        assert await sender_ids(domain) == before


@pytest.mark.parametrize(("groups", "control"), [(MEDIA, "eth0"), ("239.255.0.0/16", SECOND)], ids=["first", "second"])
async def test_with_the_control_groups_network_down_no_sound_is_lost_and_talk_comes_back(
    tmp_path: Path, groups: str, control: str
) -> None:
    """The bus is in the first network: what follows the groups' keys is in each group itself."""
    async with TwoNetworkDomain(tmp_path, groups=groups) as domain:
        await domain.gather(audio_address=AUDIO)
        before, beta = await sender_ids(domain), domain.two[HOSTS["bob"]]
        with application(domain, "alice") as speaks, application(domain, "bob") as hears:
            await passes(speaks, hears, b"before")
            ip(beta, f"link set {control} down")
            await said(domain, "bob", f"ip link set dev {control} up")
            for number in range(PACKETS):
                say(speaks, b"%d" % number)
                await asyncio.sleep(0.005)
            got = await asyncio.to_thread(heard_until, hears, b"%d" % (PACKETS - 1))
            assert [each for each in got if each != b"before"] == [b"%d" % number for number in range(PACKETS)]
            ip(beta, f"link set {control} up")

        async def well() -> bool:
            try:
                return not any(state.network for state in (await domain.groups("bob")).values())
            except Refused:  # the bus hasn't come back yet
                return False

        await domain.until(well, 3 * WITHIN)
        await talk_and_sound_pass(domain)
        assert await sender_ids(domain) == before


def heard_until(hears: socket.socket, last: bytes) -> list[bytes]:
    got: list[bytes] = []
    while not got or got[-1] != last:
        got.append(parse_incoming(hears.recv(LARGEST_FRAME)).payload)
    return got


async def test_another_address_in_one_network_is_told_in_that_one_only(tmp_path: Path) -> None:
    async with TwoNetworkDomain(tmp_path) as domain:
        await domain.gather(audio_address=AUDIO)
        before, beta = (await sender_ids(domain))["bob"], domain.two[HOSTS["bob"]]
        network = domain.two.second.plan.network
        old, new = domain.two.second_address(beta), str(network[200])
        ip(beta, f"address del {old}/{network.prefixlen} dev {SECOND}")
        ip(beta, f"address add {new}/{network.prefixlen} dev {SECOND}")

        async def known() -> bool:
            roster = (await domain.groups("alice"))["audio"].roster
            return {entry.address for entry in roster if entry.host.endswith(beta.name)} == {new}

        await domain.until(known, 3 * WITHIN)
        await talk_and_sound_pass(domain)
        after = (await sender_ids(domain))["bob"]
        assert after["control"] == before["control"] and after["audio"] != before["audio"]


async def test_a_host_in_one_network_takes_part_there_and_is_told_what_the_other_needs(tmp_path: Path) -> None:
    async with TwoNetworkDomain(tmp_path, ("alice", "bob", "carol")) as domain:
        await domain.gather()  # in the first network alone
        await domain.conferences["carol"].send("hello from one network")
        await domain.hears("alice", "hello from one network")
        audio = GroupDescription(name="audio", media="audio", format="96", port=5004, address=AUDIO)
        names = [domain.id_of(user) for user in domain.users]
        await domain.connections["alice"].convene("with sound", acceptable_users=names, media=[audio])

        async def seen() -> bool:
            return any(
                each.title == "with sound" and each.verified for each in await domain.connections["carol"].sessions()
            )

        await domain.until(seen, WITHIN)
        with pytest.raises(Refused, match=f'groups = "{MEDIA}", address = ') as refused:
            await domain.connections["carol"].join("with sound")
        assert refused.value.code == "network"
        assert {state.group.name for state in (await domain.connections["carol"].groups())} == {"control"}
        with pytest.raises(Refused, match=MEDIA):
            await domain.connections["carol"].convene("from carol", acceptable_users=names, media=[audio])
        await domain.connections["bob"].join("with sound")


async def test_an_authorizer_and_a_directory_that_are_not_in_the_media_network(tmp_path: Path) -> None:
    """It tells of changes by the bus alone; the session is announced where the directory is."""
    async with TwoNetworkDomain(tmp_path, infrastructure=[{"groups": MEDIA}]) as domain:
        capture = Capture(domain.two.second.bridge, tmp_path / "second.pcap")
        await domain.gather(audio_address=AUDIO)
        before = (await domain.groups("bob"))["audio"].epoch
        await talk_and_sound_pass(domain)
        await domain.conferences["alice"].eject(domain.id_of("bob"))

        async def rekeyed() -> bool:
            return (await domain.groups("alice"))["audio"].epoch > before

        await domain.until(rekeyed, WITHIN)
        capture.stop()
        hosts = {domain.addresses_of(HOSTS[user], AUDIO)[0] for user in domain.users}
        assert {source for source, _ in sent_by_multicast(capture.output)} == hosts
        assert announced_from(capture.output) == set()
        assert "multicast.no-socket" in domain.processes.services["authorizer"].written()


async def test_one_sender_is_the_source_in_the_network_of_source_specific_groups(tmp_path: Path) -> None:
    async with TwoNetworkDomain(tmp_path, groups="232.0.0.0/8") as domain:
        await domain.gather(media=True, one_sender=True)
        audio = {group.name: group for group in domain.conferences["bob"].state.groups}["audio"]
        sources = [domain.two.second_address(domain.two[name]) for name in (HOSTS["alice"], INFRASTRUCTURE)]
        assert list(audio.sources) == sources
        for source in sources:
            domain.two.second.await_membership(domain.two[HOSTS["bob"]], audio.address, source)
        with application(domain, "alice") as speaks, application(domain, "bob") as hears:
            await passes(speaks, hears, b"from the sender")


async def test_an_msm_begins_without_the_media_network_and_takes_it_when_it_comes(tmp_path: Path) -> None:
    async with TwoNetworkDomain(tmp_path) as domain:
        beta, network = domain.two[HOSTS["bob"]], domain.two.second.plan.network
        own = f"{domain.two.second_address(beta)}/{network.prefixlen}"
        ip(beta, f"address del {own} dev {SECOND}")
        domain.processes.services["msm-beta"].restart()
        await domain.convene(*domain.users, audio_address=AUDIO)
        with pytest.raises(Refused, match=f"{SECOND} has no IPv4 address: ip address add"):
            await domain.join("bob")
        ip(beta, f"address add {own} dev {SECOND}")

        async def joined() -> bool:
            try:
                await domain.join("bob")
            except Refused:  # what the kernel tells comes to the MSM a moment later
                return False
            return True

        await domain.until(joined, WITHIN)
        await domain.keyed()
        await talk_and_sound_pass(domain)


@pytest.mark.parametrize("told", [True, False], ids=["one network", "two networks"])
async def test_subgroups_of_one_group(tmp_path: Path, told: bool) -> None:
    """They are in the network of the group that was announced, where the Authorizer is told of it; otherwise they have
    addresses of its pool: then the backbone is in one network, the others in the other one."""
    policy = GroupPolicy(gkm="iolus", subgroup_size=1)
    async with TwoNetworkDomain(tmp_path, infrastructure=None if told else []) as domain:
        await domain.gather(audio_address=AUDIO, policy=policy)
        await talk_and_sound_pass(domain)
        found = [(await domain.groups(user))["audio"] for user in domain.users]
        assert AUDIO in {state.group.address for state in found}
        assert {state.interface for state in found} == ({SECOND} if told else {"eth0", SECOND})


def test_two_networks_have_nothing_in_common() -> None:
    with TwoNetworks(["alpha", "beta"], ["alpha"]) as two:
        witness = two.second["witness"].address
        for name, reached in (("alpha", True), ("beta", False)):
            assert reaches(two[name], witness) is reached


def reaches(host: Host, address: str) -> bool:
    """Whether somebody is there who says that nobody listens."""
    with host.inside(), socket.socket() as door:
        try:
            door.connect((address, 9))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return True
