"""Five participants on a bad network: everything arrives everywhere, in order, at a bounded price."""

from __future__ import annotations

import random

import pytest

from mcsa.v1.conference_pb2 import Fragment
from tests.control.lossy import Network, Participant
from tests.world import World

NAMES = ("ann", "bob", "cas", "dan", "eve")


def conference(world: World, seed: int, loss: float = 0.2) -> Network:
    network = Network(seed, loss=loss, duplication=0.1)
    for name in NAMES:
        network.add(Participant(world, name, network.now, seed=seed))
    return network


def talk(network: Network, messages: int, biggest: int, seed: int = 0) -> dict[str, list[bytes]]:
    """Everybody who lives says so many things; what was said, by name."""
    draw = random.Random(seed)
    living = [participant for participant in network.participants if not participant.dead]
    said: dict[str, list[bytes]] = {participant.name: [] for participant in living}
    for _ in range(messages):
        for participant in living:
            said[participant.name].append(draw.randbytes(draw.randint(1, biggest)))
            participant.say(said[participant.name][-1], network.now)
        network.run(0.05)
    return said


def assert_all_heard(network: Network, said: dict[str, list[bytes]]) -> None:
    living = [participant for participant in network.participants if not participant.dead]
    for hearer in living:
        for speaker in living:
            if hearer is not speaker and speaker.name in said:
                assert hearer.heard_from(speaker) == said[speaker.name], (hearer.name, speaker.name)
        assert set(hearer.rejected) <= {"unknown-stream", "old-status"}  # both normal where packets overtake
        assert hearer.evidence == []


@pytest.mark.parametrize("seed", range(4))
def test_everything_arrives_everywhere(world: World, seed: int):
    network = conference(world, seed)
    said = talk(network, 40, 8_192, seed)
    network.run(8)
    assert_all_heard(network, said)
    fragments = sum(-(-len(text) // 1_150) for texts in said.values() for text in texts)
    assert network.sent["message"] <= 4 * fragments  # 1.6 with nothing but what lacks; a position tells no more
    assert network.sent["status"] <= 5 * 10 * 10  # five participants, ten seconds, every tenth of a second at most


def test_settled_then_quiet(world: World):
    network = conference(world, 1)
    talk(network, 5, 1_000)
    network.run(15)
    users = [str(participant.user.id) for participant in network.participants]
    assert all(participant.streams.settled(users) for participant in network.participants)
    messages, statuses = network.sent["message"], network.sent["status"]
    network.run(60)
    assert network.sent["message"] == messages
    assert network.sent["status"] - statuses <= 5 * 60 / 4 + 5


def test_without_loss_hardly_anything_is_repeated(world: World):
    network = conference(world, 2, loss=0.0)
    said = talk(network, 20, 1_000)
    network.run(5)
    assert_all_heard(network, said)
    assert network.sent["message"] <= 5 * 21 * 1.1


def test_half_of_everything_lost(world: World):
    network = conference(world, 3, loss=0.5)
    said = talk(network, 10, 2_000)
    network.run(30)
    assert_all_heard(network, said)


def test_late_joiner_catches_up(world: World):
    network = conference(world, 4)
    said = talk(network, 30, 4_096)
    network.run(8)
    before = network.sent_bytes
    late = network.add(Participant(world, "zoe", network.now))
    network.run(20)
    assert_all_heard(network, said)
    assert len(late.heard) == 5 * 31
    everything = sum(len(text) for texts in said.values() for text in texts)
    assert network.sent_bytes - before <= 4 * everything


def test_the_dead_cost_little(world: World):
    network = conference(world, 5)
    network.run(3)
    network.participants[0].dead = True
    said = talk(network, 20, 2_000)
    network.run(60)
    assert_all_heard(network, said)
    before = network.sent["message"]
    network.run(300)
    assert network.sent["message"] == before
    assert before <= 1_500


def test_one_cut_off_comes_back(world: World):
    """It is away for longer than anybody waits for it."""
    network = conference(world, 6)
    network.run(3)
    away = network.participants[0]
    away.dead = True
    said = talk(network, 10, 2_000)
    network.run(60)
    away.dead = False
    said |= {away.name: []}
    network.run(30)
    assert_all_heard(network, said)


def test_old_datagrams_replayed_cost_a_bounded_repeat(world: World):
    """A member plays all that was ever sent again, ten times: nothing is delivered twice, little is repeated."""
    network = conference(world, 7)
    said = talk(network, 10, 1_000)
    network.run(15)
    old, before = list(network.datagrams), network.sent["message"]
    for _ in range(10):
        for datagram in old:
            for participant in network.participants:
                participant.take(datagram, network.now)
        network.run(1)
    assert_all_heard(network, said)
    assert network.sent["message"] - before <= 10


def test_an_old_status_played_again_makes_nobody_look_alive(world: World):
    network = conference(world, 11)
    talk(network, 5, 500)
    network.run(10)
    dead, *living = network.participants
    dead.dead = True
    network.run(1)
    user = str(world.user(dead.name).id)
    old = [datagram for datagram in network.datagrams if Fragment.FromString(datagram).user == user]
    network.run(30)
    before = [one.streams.heard_at(user) for one in living]
    for datagram in old:
        for one in living:
            one.take(datagram, network.now)
    assert [one.streams.heard_at(user) for one in living] == before
    assert all(one.rejected["old-status"] > 0 for one in living)


def test_same_seed_same_run(world: World):
    def run() -> tuple[int, int, list[int]]:
        network = conference(world, 8)
        talk(network, 5, 3_000)
        network.run(5)
        return network.sent["message"], network.sent["status"], [len(one.heard) for one in network.participants]

    assert run() == run()


def test_a_crowd_tells_no_more_often(world: World):
    """Status become rarer with the number of streams, and nothing is repeated because of that."""
    network = Network(9)
    for number in range(16):
        network.add(Participant(world, f"user{number}", network.now))
    network.run(5)
    messages, statuses = network.sent["message"], network.sent["status"]
    for _ in range(5):
        network.participants[0].say(b"text", network.now)
        network.run(1)
    assert all(len(participant.heard) == 15 + 5 for participant in network.participants[1:])
    assert network.sent["message"] - messages == 5
    assert network.sent["status"] - statuses <= 5 * 16 * 1.5
