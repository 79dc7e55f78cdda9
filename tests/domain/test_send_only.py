"""A host that sends and is no member, as real processes: `mcsa send-only` and the audio tool, real packets, and no
group key anywhere in the memory of its MSM."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mcsa.audio.format import AudioFormat
from mcsa.audio.wav import tone, write_wav
from mcsa.demo.memory import holds
from mcsa.domain.files import DomainFiles
from mcsa.errors import Refused
from mcsa.laboratory.namespaces import Host
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from tests.domain.running import TITLE, RunningDomain
from tests.judges import require_program

PORT = 5004


class LimitedFiles(DomainFiles):
    """Of a domain in which Alice alone may create groups, and Carol's host has a driver of its own."""

    driver = "relay"

    def msm_config(self, host: str, bus: str, address: str, **more: Any) -> Path:
        return super().msm_config(host, bus, address, **more, driver=self.driver if host == "gamma" else "relay")

    def authorizer_config(self, bus: str, address: str, pool: str, **more: Any) -> Path:
        return super().authorizer_config(bus, address, pool, creators=[f"spiffe://{self.domain}/user/alice"], **more)


async def run(host: Host, *arguments: str, **environment: str) -> dict[str, Any]:
    """A program on a host; what it says is JSON."""
    process = await asyncio.create_subprocess_exec(
        *host.command([sys.executable, "-m", *arguments]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    out, complaints = await asyncio.wait_for(process.communicate(), 40.0)
    assert process.returncode == 0, complaints.decode()
    said = json.loads(out)
    assert isinstance(said, dict)
    return said


def group_keys(spied: Path) -> dict[int, bytes]:
    told = [json.loads(line) for line in spied.read_text().splitlines()]
    return {line["epoch"]: bytes.fromhex(line["key"]) for line in told}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("wire", "driver", "ipv6"), [("udp", "relay", False), ("esp", "relay", True), ("udp", "tun", False)]
)
async def test_a_host_that_is_no_member_is_heard_hears_nothing_and_never_has_a_group_key(
    wire: str, driver: str, ipv6: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if driver == "tun":
        require_program("nft")
    monkeypatch.setenv("MCSA_TEST_KEYS", str(tmp_path / "keys"))
    sound = tmp_path / "sound.wav"
    format_ = AudioFormat.parse("L16/8000/1")
    write_wav(sound, format_, tone(format_, 1.0))
    modules = {"msm-alpha": "tests.domain.spying_msm"}
    files = LimitedFiles(tmp_path / "domain", "test.example")
    files.driver = driver
    async with RunningDomain(tmp_path, ("alice", "bob", "carol"), modules, files, ipv6=ipv6) as domain:
        alice = domain.connections["alice"]
        with pytest.raises(Refused, match="not among the users that may create") as refused:
            await domain.connections["bob"].convene("Bob's own", open_to_all=True)
        assert refused.value.rule == "listed-creators-only"
        audio = GroupDescription(name="audio", media="audio", format="96", port=PORT)
        conference = await alice.convene(
            TITLE,
            acceptable_users=[domain.id_of("bob")],
            acceptable_senders=[domain.id_of("carol")],
            media=[audio],
            policy=GroupPolicy(wire=wire, lease_s=6),
        )
        domain._in("alice", conference)
        await domain.join("bob")
        await domain.keyed("alice", "bob")
        await domain.until(lambda: domain.sees("carol"), 10.0)

        gamma = domain.laboratory["gamma"]
        key, socket = domain.files.credentials_path("user", "carol"), domain.files.sockets("gamma") / "csm.sock"
        told = await run(
            gamma, "mcsa.cli", "send-only", TITLE, "--user", str(key), "--json", MCSA_CSM_SOCKET=str(socket)
        )
        address = told["address"]
        assert address not in gamma.run(["ip", "maddress", "show"])  # no IGMP: it has joined nothing
        assert address in domain.laboratory["beta"].run(["ip", "maddress", "show"])

        await asyncio.sleep(0.5)
        await replace_the_key(domain)
        heard = await listen_while_sending(domain, told["socket"], sound, tmp_path)
        for host, report in heard.items():
            (stream,) = report["streams"]
            assert stream["sender_id"] == told["sender_id"], host
            assert stream["lost"] == 0 and stream["received"] >= 50, host

        state = (await domain.groups("carol"))["audio"]
        assert (state.state, state.sender_id) == ("sending-only", told["sender_id"])
        assert state.packets["sent"] >= 50 and not state.packets["opened"] and len(state.epochs) >= 2

        spied = group_keys(tmp_path / "keys")
        current = spied[state.epoch]
        processes = domain.processes.services
        assert holds(processes["msm-beta"].pid, current) is True  # the search finds it where it is
        assert not [epoch for epoch, group_key in spied.items() if holds(processes["msm-gamma"].pid, group_key)]

        await conference.eject(domain.id_of("carol"))
        again = await listen_while_sending(domain, told["socket"], sound, tmp_path, may_fail=True)
        assert all(not report["streams"] for report in again.values())
        assert [user for user in conference.participants if user.endswith("carol")] == []


async def replace_the_key(domain: RunningDomain) -> None:
    """Bob leaves and comes back: a new epoch, and another one."""
    await domain.conferences["bob"].leave()
    await domain.join("bob")
    await asyncio.sleep(1.0)


async def listen_while_sending(
    domain: RunningDomain, socket: str, sound: Path, folder: Path, *, may_fail: bool = False
) -> dict[str, dict[str, Any]]:
    """What the members hear of a file that Carol's host plays."""
    receivers: dict[str, asyncio.subprocess.Process] = {}
    for user, host in (("alice", "alpha"), ("bob", "beta")):
        path = domain.conferences[user].socket("audio")
        arguments = ["mcsa.audio", "receive", "--socket", str(path), "--port", str(PORT), "--json"]
        receivers[host] = await asyncio.create_subprocess_exec(
            *domain.laboratory[host].command([sys.executable, "-m", *arguments, str(folder / f"{host}.wav")]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said = receivers[host].stderr
        assert said is not None and b"listening" in await said.readline()
    sender = await asyncio.create_subprocess_exec(
        *domain.laboratory["gamma"].command(
            [sys.executable, "-m", "mcsa.audio", "send", "--socket", socket, "--port", str(PORT), "--json", str(sound)]
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await asyncio.wait_for(sender.communicate(), 30.0)
    assert may_fail or sender.returncode == 0
    await asyncio.sleep(0.5)
    reports = {}
    for host, receiver in receivers.items():
        if receiver.returncode is None:
            receiver.terminate()
        out, _ = await asyncio.wait_for(receiver.communicate(), 10.0)
        reports[host] = json.loads(out)
    return reports
