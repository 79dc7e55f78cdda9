"""What `mcsa groups` says became of packets."""

from __future__ import annotations

from mcsa.cli.groups import dropped, forged, more, shared
from mcsa.v1.msm_pb2 import GroupState, SourceForgery
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy


def test_what_was_lost_is_told_the_most_frequent_first() -> None:
    counters = {"sent": 9, "opened": 7, "own": 9, "held-then-opened": 1, "replay": 2, "overrun": 30, "integrity": 0}
    assert dropped(counters) == "30 overrun, 2 replay"


def test_a_cause_that_nobody_thought_of_is_told_too() -> None:
    assert dropped({"unsent.network": 1, "opened": 2}) == "1 unsent.network"
    assert dropped({"opened": 2}) == "none"


def test_what_the_interface_counts_is_no_groups_and_told_once() -> None:
    control = {"opened": 2, "tun.fragment": 7, "host.fragments": 1, "replay": 3}
    audio = {"opened": 9, "tun.fragment": 8}
    assert dropped(control) == "3 replay" and dropped(audio) == "none"
    assert shared([control, audio]) == "8 tun.fragment, 1 host.fragments"
    assert shared([{"opened": 1}]) == ""


def test_a_packet_that_waited_for_its_epoch_is_lost_once_or_not_at_all() -> None:
    counters = {"opened": 2, "unknown-epoch": 5, "held-then-opened": 2, "held-too-long": 1, "held-then-rejected": 1}
    assert dropped(counters) == "3 unknown-epoch"
    assert dropped({"opened": 2, "unknown-epoch": 2, "held-then-opened": 2}) == "none"


def test_a_packet_that_was_not_its_senders_is_told_in_a_sentence() -> None:
    host = "spiffe://example.org/host/alpha"
    found = SourceForgery(sender_id=3, host=host, cause="source-mac", source="10.0.0.2", time_ms=1_800_000_000_000)
    assert forged(found) == "at 08:00:00 UTC a member sent in the name of alpha, from 10.0.0.2: source-mac"
    relayed = SourceForgery(sender_id=3, cause="source-mac", source="10.0.0.2", relay="spiffe://example.org/host/gamma")
    assert "sender 3, from 10.0.0.2, by the relaying agent gamma: " in forged(relayed)


def test_the_interface_of_each_group_is_told_as_far_as_it_is_known() -> None:
    state = GroupState(group=GroupDescription(name="audio", policy=GroupPolicy(wire="udp")))
    assert more(state) == "audio: udp, 0 senders; dropped: none"
    state.own_address, state.interface, state.largest_payload = "10.2.0.5", "eth1", 1_430
    assert more(state).startswith("audio: udp, by eth1 as 10.2.0.5, payloads of up to 1430 bytes, ")
