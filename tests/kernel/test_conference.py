"""A whole conference whose hosts have the `xfrm` driver: real services, the kernel's packets, an ordinary socket."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mcsa.domain.processes import INFRASTRUCTURE, DomainProcesses
from mcsa.laboratory.second_network import SECOND
from mcsa.v1.types_pb2 import GroupPolicy
from tests.domain.running import HOSTS, RunningDomain
from tests.domain.test_two_networks import AUDIO, MEDIA, TwoNetworkDomain
from tests.kernel.hosts import Application

PATIENCE = 300.0  # seconds: ten processes start on an emulated machine's two processors


@pytest.mark.timeout(900)
async def test_a_conference_with_audio_over_the_kernels_ipsec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcsa.domain.processes.READY_WITHIN", PATIENCE)
    monkeypatch.setattr("tests.domain.running.RunningDomain.until", staticmethod(_patiently))
    domain = RunningDomain(tmp_path)
    hosts = [HOSTS[user] for user in domain.users]
    domain.processes = DomainProcesses(
        domain.laboratory,
        domain.files,
        hosts,
        sd_options={"interval_floor": 0.5},
        msm_options={"driver": "xfrm", "address": "eth0"},
    )
    async with domain:
        await domain.gather(media=True, policy=GroupPolicy(beacon_silence_ms=60_000))
        await domain.conferences["alice"].send("by the kernel")
        await domain.hears("bob", "by the kernel", PATIENCE)
        [audio] = [group for group in domain.conferences["alice"].state.groups if group.name == "audio"]
        alpha, beta = (domain.laboratory[host] for host in hosts)
        states = alpha.run(["ip", "xfrm", "state"])
        sources = {words[1] for words in map(str.split, states.splitlines()) if words[::2] == ["src", "dst"]}
        authorizer = domain.laboratory[INFRASTRUCTURE]
        assert sources == {alpha.address, beta.address, authorizer.address}
        assert "aead rfc4106(gcm(aes))" in states
        speaker = Application(alpha, alpha.address, audio.address, audio.port)
        listener = Application(beta, beta.address, audio.address, audio.port)
        speaker.say(b"an application that knows nothing of it")
        assert listener.hear() == b"an application that knows nothing of it"
        packets = (await domain.groups("bob"))["audio"].packets
        assert packets["opened"] >= 1
        listener.close()

        network = domain.laboratory.plan.network
        new = str(network[200])
        for change in (f"delete {beta.address}/{network.prefixlen}", f"add {new}/{network.prefixlen}"):
            beta.run(["ip", "address", *change.split(), "dev", beta.interface])

        async def known() -> bool:
            roster = (await domain.groups("alice"))["audio"].roster
            return {entry.address for entry in roster if entry.host.endswith(beta.name)} == {new}

        await domain.until(known, PATIENCE)
        listener = Application(beta, new, audio.address, audio.port)
        domain.laboratory.await_membership(beta, audio.address)
        speaker.say(b"to another address")
        assert listener.hear() == b"to another address"
        listener.say(b"from another address")
        assert speaker.hear() == b"from another address"
        await domain.conferences["bob"].send("by the kernel, from another address")
        await domain.hears("alice", "by the kernel, from another address", PATIENCE)
        speaker.close()
        listener.close()


@pytest.mark.timeout(900)
async def test_groups_in_two_networks_over_the_kernels_ipsec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host's routes have to say, the host's route says: an application chooses no interface."""
    monkeypatch.setattr("mcsa.domain.processes.READY_WITHIN", PATIENCE)
    monkeypatch.setattr("tests.domain.running.RunningDomain.until", staticmethod(_patiently))
    async with TwoNetworkDomain(tmp_path, msm_options={"driver": "xfrm"}) as domain:
        await domain.gather(audio_address=AUDIO, policy=GroupPolicy(beacon_silence_ms=60_000))
        await domain.conferences["alice"].send("in the first network")
        await domain.hears("bob", "in the first network", PATIENCE)
        doors = []
        for user in domain.users:
            host = domain.two[HOSTS[user]]
            host.run(["ip", "route", "add", MEDIA, "dev", SECOND])
            with host.inside():
                door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                door.bind(("", 5004))
                door.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(AUDIO) + bytes(4))
                door.settimeout(60)
            doors.append(door)
            domain.two.second.await_membership(host, AUDIO)
        for speaks, hears in (doors, doors[::-1]):
            speaks.sendto(b"in the second network", (AUDIO, 5004))
            assert hears.recv(2_000) == b"in the second network"
        for door in doors:
            door.close()
        state = (await domain.groups("bob"))["audio"]
        assert state.packets["opened"] >= 1 and state.interface == SECOND


_until = RunningDomain.until


async def _patiently(happened: object, within: float) -> None:
    await _until(happened, max(within, PATIENCE))  # type: ignore[arg-type]
