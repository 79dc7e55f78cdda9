"""The sniffer, on a host and on the bridge."""

from __future__ import annotations

from pathlib import Path

from mcsa.laboratory.capture import Capture
from mcsa.laboratory.namespaces import Laboratory
from mcsa.laboratory.packets import count_kinds, parse_packet, parse_pcap, parse_report
from mcsa.shell.multicast import GroupSocket

SENT = 50


def test_the_wiretap_sees_what_hosts_say_to_each_other_and_a_stranger_what_he_joined(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    group = laboratory.plan.group(31)
    wiretap = Capture(laboratory.bridge, tmp_path / "bridge.pcap")
    mallorys = Capture(laboratory["mallory"], tmp_path / "mallory.pcap")
    sockets = {}
    for name in ("alpha", "beta", "mallory"):
        with laboratory[name].inside():
            sockets[name] = GroupSocket(group, 4500, laboratory[name].address)
        laboratory.await_membership(laboratory[name], group)
    for number in range(SENT):
        sockets["alpha"].send(b"%d" % number)
    sockets["beta"].socket.settimeout(10)
    for _ in range(SENT):
        sockets["beta"].socket.recv(100)
    for opened in sockets.values():
        opened.close()
    for capture in (wiretap, mallorys):
        counts = capture.stop()
        frames = [frame for _, frame in parse_pcap(capture.output.read_bytes())]
        assert counts == count_kinds(frames)
        payloads = [p.payload for p in map(parse_packet, frames) if p and p.destination_port == 4500]
        assert payloads == [b"%d" % number for number in range(SENT)]  # each once, in order
        assert counts["esp-udp"] == SENT
    reports = [record for frame in frames for record in parse_report(frame) if record.group == group]
    assert reports, "mallory's own join is on his wire"
