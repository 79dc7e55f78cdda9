"""The `xfrm` driver on hosts with two interfaces: each group's packets are in its own network."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcsa.laboratory.capture import Capture
from mcsa.laboratory.namespaces import DEMO_HOSTS
from mcsa.laboratory.packets import parse_packet, parse_pcap
from mcsa.laboratory.second_network import TwoNetworks
from mcsa.networks import DEFAULT, Network, Networks
from tests.kernel.hosts import Group

MEDIA = "239.193.0.0/16"


@pytest.mark.parametrize(("address", "second"), [("239.193.7.7", True), ("239.255.7.7", False)])
def test_a_group_is_in_its_own_network_and_not_in_the_other(tmp_path: Path, address: str, second: bool) -> None:
    with TwoNetworks(DEMO_HOSTS, ("alpha", "beta")) as two:
        captures = [
            Capture(laboratory.bridge, tmp_path / f"{number}.pcap")
            for number, laboratory in enumerate((two, two.second))
        ]
        own = {host.name: Network(two.second_address(host)) for host in two.both}
        networks = {name: Networks({DEFAULT: Network(two[name].address), MEDIA: own[name]}) for name in own}
        with Group(two, tmp_path, address) as group:
            alpha, beta = (group.member(name, keyed=False, networks=networks[name]) for name in ("alpha", "beta"))
            for member in (alpha, beta):  # now that both addresses are known
                group.key(member)
            for one, other in ((alpha, beta), (beta, alpha)):
                one.say(b"between two kernels")
                assert other.hear() == b"between two kernels"
            sources = {alpha.address, beta.address}
        found = []
        for capture in captures:
            capture.stop()
            packets = [parse_packet(frame) for _, frame in parse_pcap(capture.output.read_bytes())]
            found.append({packet.source for packet in packets if packet is not None and packet.destination == address})
        assert found[second] >= sources and not found[not second]
