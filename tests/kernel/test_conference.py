"""A whole conference whose hosts have the `xfrm` driver: real services, the kernel's packets, an ordinary socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcsa.domain.processes import INFRASTRUCTURE, DomainProcesses
from mcsa.v1.types_pb2 import GroupPolicy
from tests.domain.running import HOSTS, RunningDomain
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


_until = RunningDomain.until


async def _patiently(happened: object, within: float) -> None:
    await _until(happened, max(within, PATIENCE))  # type: ignore[arg-type]
