"""A conference whose packets are IP protocol 50: nothing goes to its groups in another form, the Authorizer's word
included."""

from __future__ import annotations

from pathlib import Path

from mcsa.domain.processes import INFRASTRUCTURE
from mcsa.laboratory.capture import Capture
from mcsa.laboratory.packets import classify, parse_packet, parse_pcap
from mcsa.v1.types_pb2 import GroupPolicy
from tests.domain.running import RunningDomain


async def test_a_conference_over_ip_protocol_50_the_authorizer_s_word_too(tmp_path: Path) -> None:
    async with RunningDomain(tmp_path) as domain:
        capture = Capture(domain.laboratory.bridge, tmp_path / "bridge.pcap")
        await domain.gather(policy=GroupPolicy(wire="esp", suite="aes-128-gcm"))
        await domain.conferences["alice"].send("by protocol 50")
        await domain.hears("bob", "by protocol 50")
        capture.stop()
        addresses = {group.address for group in domain.conferences["alice"].state.groups}
        authorizer = domain.laboratory[INFRASTRUCTURE].address
        kinds, spoke = set(), set()
        for _, frame in parse_pcap((tmp_path / "bridge.pcap").read_bytes()):
            packet = parse_packet(frame)
            if packet is not None and packet.destination in addresses:
                kinds.add(classify(frame))
                spoke.add(packet.source)
        assert "esp" in kinds
        assert kinds <= {"esp", "igmp"}
        assert authorizer in spoke
        packets = (await domain.groups("bob"))["control"].packets
        assert not {"integrity", "wrong-source", "inner"} & set(packets)
