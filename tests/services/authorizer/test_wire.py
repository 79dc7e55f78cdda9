"""Updates on a real wire: whatever their size, IP never has to cut a datagram."""

from __future__ import annotations

import os

import pytest

from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.inbound import InboundAssociations
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from mcsa.laboratory.namespaces import Laboratory
from mcsa.laboratory.packets import classify
from mcsa.shell.multicast import ESP_PORT, GroupSocket
from mcsa.update_parts import UpdateReassembly, split_update
from mcsa.updates import PORT, parse_message
from tests.laboratory.wire import frames_until, is_fragment, tapped

GROUP_ID, KEY, EPOCH, SENDER = bytes(16), GroupKey(bytes(32)), 7, 1
SUITE = suite_named("aes-256-gcm")


@pytest.mark.parametrize("size", [700, 1_600, 64_000])
def test_an_update_arrives_whole_and_not_one_fragment_is_on_the_wire(laboratory: Laboratory, size: int) -> None:
    alpha, beta = laboratory["alpha"], laboratory["beta"]
    group, sealed = laboratory.plan.group(71), os.urandom(size)
    sender = OutboundAssociation(derive_traffic_key(KEY, "example.org", GROUP_ID, EPOCH, SUITE, SENDER))
    inbound = InboundAssociations("example.org", GROUP_ID, SUITE, 1_024)
    inbound.install(EPOCH, KEY)
    inbound.set_roster({SENDER: alpha.address}, ())
    with alpha.inside():
        sending = GroupSocket(group, ESP_PORT, alpha.address, bind_group=False, fragment=False)
    with beta.inside():
        receiving = GroupSocket(group, ESP_PORT, beta.address)
    laboratory.await_membership(beta, group)
    reassembly, whole, datagrams = UpdateReassembly(), None, split_update(1, sealed)
    with tapped(beta) as tap, sending, receiving:
        receiving.socket.settimeout(5.0)
        for datagram in datagrams:
            sending.send(sender.seal(datagram, PORT, PORT))
            raw, (source, _) = receiving.socket.recvfrom(65_535)
            message = parse_message(bytes(inbound.open(raw, source).payload))
            whole = message.update or reassembly.take(message.part, range(1, 2))
        frames = frames_until(tap, lambda seen: list(map(classify, seen)).count("esp-udp") >= len(datagrams))
    assert whole == sealed
    assert not [frame for frame in frames if is_fragment(frame)]
    assert max(len(frame) for frame in frames if classify(frame) == "esp-udp") <= 14 + 1_280
