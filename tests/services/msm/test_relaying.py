"""Relaying agents: what one subgroup says the others hear, once, from whom it was said."""

from __future__ import annotations

from collections import Counter

import pytest

from mcsa.esp.relayed import MAX_RELAYED, Origin
from mcsa.esp.slab import Slab
from mcsa.updates import PORT as UPDATE_PORT
from services.msm.events import InstallEpoch, PauseSending, ResumeSending, SetRoster, SwitchSending
from services.msm.path import Received
from services.msm.relaying import Relayed
from tests.services.msm.star import PORT, Host, Star
from tests.simulation.network import Weather

EVERYBODY = ("ada", "amy", "rolf", "ben", "rita", "bob")
PAYLOADS = [b"%d" % number for number in range(300)]


def heard(host: Host) -> list[tuple[int, bytes]]:
    return [(packet.sender_id, packet.payload) for packet in host.inbox]


def hostile(star: Star, inside: bytes, port: int = PORT, agent: str = "rita", into: str = "b") -> None:
    """What an agent that does not do what it should seals into its leaf, or the backbone."""
    star[agent].carry(star[agent].paths[into], [Relayed([inside], port, port)])
    star.run()


# ---- what is relayed


@pytest.mark.parametrize("speaker", EVERYBODY)
def test_everybody_hears_a_packet_once_from_who_said_it_and_it_does_not_come_back(speaker: str) -> None:
    star = Star()
    star[speaker].say(b"hello")
    star.run()
    for name in EVERYBODY:
        expected = [] if name == speaker else [(star[speaker].sender_id, b"hello")]
        assert heard(star[name]) == expected, name
    assert [star.sent(subgroup) for subgroup in ("a", "backbone", "b")] == [1, 1, 1]


def test_the_origins_numbers_and_ports_arrive_as_they_were() -> None:
    star = Star()
    star["ada"].say(b"first")
    star["ada"].say(b"second", 6000)
    star.run()
    epoch, agent = star.subgroups["a"].epoch, star["rita"].relay_ids["b"]
    assert sorted(star["bob"].inbox, key=lambda packet: packet.sequence) == [
        Received(star["ada"].sender_id, PORT, PORT, b"first", epoch, 1, agent),
        Received(star["ada"].sender_id, 6000, 6000, b"second", epoch, 2, agent),
    ]
    for packet in star["amy"].inbox:
        assert packet.relay is None


def test_all_speak_at_once() -> None:
    star = Star()
    for number in range(50):
        for name in EVERYBODY:
            star[name].say(b"%d of %s" % (number, name.encode()))
    star.run()
    for name in EVERYBODY:
        expected = {
            (star[other].sender_id, b"%d of %s" % (number, other.encode()))
            for other in EVERYBODY
            if other != name
            for number in range(50)
        }
        assert len(star[name].inbox) == len(expected)
        assert set(heard(star[name])) == expected


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_over_a_network_that_loses_doubles_and_reorders_nothing_arrives_twice(seed: int, loss: float) -> None:
    star = Star(seed, Weather(loss=loss, duplication=0.3, jitter=0.2))
    for payload in PAYLOADS:
        star["ada"].say(payload)
        star["bob"].say(payload)
        star.network.run_for(0.001)
    star.run()
    for name, speaker in (("amy", "ada"), ("ben", "ada"), ("bob", "ada"), ("ada", "bob"), ("ben", "bob")):
        told = Counter(payload for sender_id, payload in heard(star[name]) if sender_id == star[speaker].sender_id)
        assert set(told.values()) == {1}
        assert told.keys() <= set(PAYLOADS)
        assert len(told) == len(PAYLOADS) if not loss else len(told) > len(PAYLOADS) / 4
        numbers = [packet.sequence for packet in star[name].inbox if packet.sender_id == star[speaker].sender_id]
        assert numbers != sorted(numbers)
        assert any(path.counters["replay"] for path in star[name].paths.values())
    assert bool(star.network.counters["multicast.lost"]) == bool(loss)
    for name in ("ada", "bob"):
        assert not [packet for packet in star[name].inbox if packet.sender_id == star[name].sender_id]


def test_relayed_packets_open_in_batches_as_one_by_one() -> None:
    star = Star()
    agent, bob = star["rita"], star["bob"]
    packets = [Received(2, PORT, PORT, b"%03d" % number, 7, number + 1) for number in range(40)]
    (relayed,) = agent.agent.from_backbone(packets) if agent.agent else []
    (batch,) = agent.paths["b"].relay_batches(*relayed)
    slab = Slab()
    slab.view[: len(batch.view)] = batch.view
    found = bob.paths["b"].open_batch(slab, len(batch.view), batch.segment_size, agent.address, 0.0)
    assert found == [packet._replace(relay=agent.relay_ids["b"]) for packet in packets]
    assert bob.paths["b"].open(bytes(batch.view[: batch.segment_size]), agent.address, 0.0) == []
    assert bob.paths["b"].counters["replay"] == 1  # of this hop


# ---- subgroups apart


def test_a_leave_in_one_leaf_changes_no_key_elsewhere_and_all_go_on() -> None:
    star = Star()
    leaf, others = star.subgroups["a"], [star.subgroups["backbone"], star.subgroups["b"]]
    before = [(subgroup.authority.key, subgroup.epoch) for subgroup in others]
    key = leaf.authority.key
    leaf.remove(star["amy"])
    assert leaf.authority.key != key
    assert [(subgroup.authority.key, subgroup.epoch) for subgroup in others] == before
    star["ada"].say(b"without amy")
    star["bob"].say(b"so am I")
    star.run()
    assert heard(star["bob"]) == [(star["ada"].sender_id, b"without amy")]
    assert heard(star["ada"]) == [(star["bob"].sender_id, b"so am I")]
    assert heard(star["amy"]) == []


def test_a_key_of_one_subgroup_opens_nothing_of_another() -> None:
    star = Star()
    bob, path, epoch = star["bob"], star["ada"].paths["a"], star.subgroups["b"].epoch
    packet = bob.paths["b"].seal(b"hello", PORT, PORT)
    assert packet
    path.carry_out(SetRoster(b"", {bob.sender_id: bob.address}, None, None), 0.0)
    path.carry_out(InstallEpoch(b"", epoch, star.subgroups["a"].authority.key), 0.0)
    assert path.open(packet, bob.address, 0.0) == []
    assert path.counters["integrity"] == 1


# ---- what an agent does not relay


def test_updates_and_beacons_stay_in_their_subgroup() -> None:
    star = Star()
    star["ada"].say(b"as if it were an update", UPDATE_PORT)
    star["ben"].say(b"likewise", UPDATE_PORT)
    star.run()
    assert star.sent("b") == 0
    assert [star["rolf"].agent.counters[f"{way}.update"] for way in ("up", "down")] == [1, 1]  # type: ignore[union-attr]


def test_an_agent_does_not_hear_itself() -> None:
    star = Star()
    rolf = star["rolf"]
    star["ada"].say(b"up")
    star["bob"].say(b"down")
    star.run()
    before = len(rolf.inbox)
    for frame in [frame for frame in star.network.frames if frame.source == rolf.address]:
        for subgroup in ("a", "backbone"):  # the network's copies
            rolf.arrived(subgroup, frame.raw, rolf.address)
    assert [rolf.paths[subgroup].counters["own"] for subgroup in ("a", "backbone")] == [1, 1]
    assert len(rolf.inbox) == before


def test_what_was_relayed_into_a_leaf_does_not_go_up_again() -> None:
    star = Star()
    ben = star["ben"].sender_id
    agent = star["rolf"].agent
    assert agent
    assert agent.from_leaf([Received(ben, PORT, PORT, b"x", 7, 1, relay=99)]) == []
    assert agent.counters == {"up.hopped": 1}


def test_what_was_said_in_a_leaf_does_not_come_down_again() -> None:
    star = Star()
    agent = star["rolf"].agent
    assert agent
    star["ada"].say(b"hello")
    star.run()
    hostile(star, Origin(star["ada"].sender_id, star.subgroups["a"].epoch, 9).encode() + b"never said", into="backbone")
    assert agent.counters == {"up.relayed": 1, "down.returning": 1}
    assert star.sent("a") == 1


def test_what_has_no_room_for_an_origin_reaches_its_own_subgroup() -> None:
    star = Star()
    star["ada"].say(bytes(MAX_RELAYED))
    star["ada"].say(bytes(MAX_RELAYED + 1))
    star.run()
    assert [len(packet.payload) for packet in star["bob"].inbox] == [MAX_RELAYED]
    assert sorted(len(packet.payload) for packet in star["amy"].inbox) == [MAX_RELAYED, MAX_RELAYED + 1]
    assert star["rolf"].agent.counters["up.too-long"] == 1  # type: ignore[union-attr]


def test_an_agent_that_may_not_send_relays_nothing_until_it_may() -> None:
    star = Star()
    path = star["rolf"].paths["backbone"]
    path.carry_out(PauseSending(b""), 0.0)
    star["ada"].say(b"lost")
    star.run()
    path.carry_out(ResumeSending(b""), 0.0)
    star["ada"].say(b"heard")
    star.run()
    assert heard(star["bob"]) == [(star["ada"].sender_id, b"heard")]
    assert path.counters["relaying-unsent.paused"] == 1
    assert path.counters["relaying-sent"] == 1


# ---- what a receiver does not take


def test_no_origin_in_front() -> None:
    star = Star()
    hostile(star, b"too short")
    hostile(star, Origin(2**20, 1, 1).encode())
    assert star["bob"].inbox == []
    assert star["bob"].paths["b"].counters["relayed-malformed"] == 2


def test_an_agent_can_not_forge_who_is_in_the_receivers_own_subgroup() -> None:
    star = Star()
    carl = star.admit("carl", "b")
    for forged in (carl.sender_id, star["bob"].sender_id, star["rita"].relay_ids["b"], 1):
        hostile(star, Origin(forged, star.subgroups["b"].epoch, 9).encode() + b"never said")
    assert star["bob"].inbox == []
    assert star["bob"].paths["b"].counters["relayed-local"] == 4


def test_an_agent_can_forge_who_is_elsewhere() -> None:
    """Group authentication and no more: see `mcsa.esp.relayed`."""
    star = Star()
    hostile(star, Origin(star["ada"].sender_id, star.subgroups["a"].epoch, 9).encode() + b"never said")
    assert heard(star["bob"]) == [(star["ada"].sender_id, b"never said")]
    assert heard(star["ben"]) == []


def test_an_update_is_nobodys_to_relay() -> None:
    star = Star()
    hostile(star, Origin(99, 7, 1).encode() + b"as if it were an update", UPDATE_PORT)
    assert star["bob"].inbox == []
    assert star["bob"].paths["b"].counters["relayed-update"] == 1


def test_a_packet_sealed_twice_by_its_agent_is_taken_once() -> None:
    star = Star()
    for _ in range(2):
        hostile(star, Origin(99, 7, 1).encode() + b"hello")
    assert heard(star["bob"]) == [(99, b"hello")]
    assert star["bob"].paths["b"].counters["relayed-replay"] == 1


def test_an_agent_that_restarts_can_not_deliver_a_packet_again() -> None:
    star = Star()
    star["ada"].say(b"hello")
    star.run()
    again = star["bob"].inbox[0]
    star.appoint("rita", "b")
    hostile(star, again.origin.encode() + again.payload)
    assert heard(star["bob"]) == [(star["ada"].sender_id, b"hello")]
    assert star["bob"].paths["b"].counters["relayed-replay"] == 1
    star["ada"].say(b"new")
    star.run()
    assert heard(star["bob"])[1:] == [(star["ada"].sender_id, b"new")]


def test_two_agents_of_one_leaf_deliver_a_packet_once() -> None:
    star = Star()
    star.appoint("amy", "a")
    star["ada"].say(b"up")
    star["bob"].say(b"down")
    star.run()
    for name, expected in (("ben", b"up"), ("bob", b"up"), ("rita", b"up")):
        assert [packet.payload for packet in star[name].inbox if packet.sender_id == star["ada"].sender_id] == [
            expected
        ]
    assert heard(star["ada"]) == [(star["bob"].sender_id, b"down")]
    assert heard(star["amy"]).count((star["bob"].sender_id, b"down")) == 1
    assert star["ben"].paths["backbone"].counters["relayed-replay"] == 1
    assert star["ada"].paths["a"].counters["relayed-replay"] == 1


def test_who_is_no_agent_can_not_speak_for_another() -> None:
    star = Star()
    forged = Origin(star["bob"].sender_id, star.subgroups["b"].epoch, 9).encode() + b"never said"
    star["ada"].say(forged)
    star.run()
    assert heard(star["amy"]) == heard(star["ben"]) == heard(star["bob"]) == [(star["ada"].sender_id, forged)]


# ---- sender IDs


def test_an_agents_own_words_are_not_taken_for_relayed_ones() -> None:
    star = Star()
    forged = Origin(star["ada"].sender_id, 7, 9).encode() + b"never said"
    star["rolf"].say(forged)
    star.run()
    assert heard(star["ada"]) == heard(star["bob"]) == [(star["rolf"].sender_id, forged)]


@pytest.mark.parametrize("relaying", [True, False])
def test_no_association_is_installed_twice(relaying: bool) -> None:
    star = Star()
    host = star["rolf"]
    sender_id = (host.relay_ids if relaying else host.sender_ids)["a"]
    with pytest.raises(ValueError, match="installed once"):
        host.paths["a"].carry_out(SwitchSending(b"", star.subgroups["a"].epoch, sender_id, relaying), 0.0)


def test_numbers_of_the_relaying_association_run_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    star = Star()
    path = star["rolf"].paths["backbone"]
    assert path.sequence_low() == []
    monkeypatch.setattr("mcsa.esp.outbound._NEARLY_EXHAUSTED_AT", 2)
    star["ada"].say(b"one")
    star["ada"].say(b"two")
    star.run()
    assert len(path.sequence_low()) == 1
    assert path.sequence_low() == []
