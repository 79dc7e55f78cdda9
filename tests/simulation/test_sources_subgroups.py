"""Source authentication over relaying agents (Iolus): it is the origin's, and the agent is believed in nothing."""

from __future__ import annotations

import pytest

from mcsa.esp.relayed import Origin
from mcsa.source_authentication import modes
from mcsa.v1.types_pb2 import GroupPolicy
from tests.simulation.domain import Domain
from tests.simulation.insider import forge
from tests.simulation.network import Weather

EACH = pytest.mark.parametrize("mode", [name for name, mode in modes().items() if mode.promises.authenticates])
HOSTS = ("alpha", "beta", "gamma", "delta", "epsilon")


class Story:
    """alpha and beta on the backbone, gamma and delta in one leaf, epsilon in another; gamma and epsilon are agents."""

    def __init__(self, mode: str, weather: Weather | None = None) -> None:
        self.domain = Domain(1, weather or Weather(jitter=0.0), HOSTS)
        users = {host: f"user-{host}" for host in HOSTS}
        policy = GroupPolicy(gkm="iolus", subgroup_size=2, source_authentication=mode)
        created = self.domain.create(acceptable=tuple(users.values()), policy=policy)
        self.group_id = created.groups[0].group_id
        for host in HOSTS:
            outcome = self.domain.csm[host].join(created.groups[0], created.conference_id, users[host])
            assert outcome.refused is None, outcome.refused
        self.domain.network.run_for(3.0)

    def talk(self, host: str, words: list[bytes]) -> None:
        for word in words:
            assert self.domain.msm[host].send(self.group_id, word)
            self.domain.network.run_for(0.02)
        self.domain.network.run_for(1.5)

    def heard(self, host: str) -> list[bytes]:
        return [item.payload for item in self.domain.msm[host].received[self.group_id]]

    def sources(self, host: str) -> set[int]:
        return {item.sender_id for item in self.domain.msm[host].received[self.group_id]}

    def sender_id(self, host: str) -> int:
        sender_id = self.domain.msm[host].core.memberships[self.group_id].sender_id
        assert sender_id is not None
        return sender_id


def words(name: str, count: int = 40) -> list[bytes]:
    return [f"{name} {number}".encode() for number in range(count)]


@EACH
def test_everybody_hears_everybody_with_the_origins_own_proof(mode: str):
    story = Story(mode)
    said: list[bytes] = []
    for host in HOSTS:
        story.talk(host, words(host))
        said += words(host)
    for host in HOSTS:
        own = words(host)
        assert story.heard(host) == [word for word in said if word not in own], host
        assert story.sources(host) == {story.sender_id(other) for other in HOSTS if other != host}


@EACH
def test_on_a_rough_network_what_is_heard_was_said_once(mode: str):
    story = Story(mode, Weather(loss=0.1, duplication=0.1, jitter=0.02))
    story.talk("delta", words("delta", 100))
    for host in ("alpha", "beta", "epsilon"):
        heard = story.heard(host)
        assert len(heard) == len(set(heard)) and set(heard) <= set(words("delta", 100))
        assert len(heard) > 50, host


@EACH
def test_an_agent_that_forges_an_origin_is_found(mode: str):
    """Gamma is the agent of its leaf: it says on the backbone, as agents do, that delta has said something."""
    story = Story(mode)
    story.talk("delta", words("delta", 10))
    gamma = story.domain.msm["gamma"]
    (agent,) = gamma.agents.values()
    epoch = max(agent.leaf._keys)
    forged = Origin(story.sender_id("delta"), epoch, 1_000_000).encode() + b"\x09" + bytes(300)
    for batch in agent.backbone.relay_batches([forged], 5004, 5004):
        story.domain.network.send(gamma.address, agent.backbone.group.address, bytes(batch.view))
    story.domain.network.run_for(1.0)
    story.talk("delta", words("more", 10))  # the origin's window and the agent's haven't moved
    for host in ("alpha", "beta", "epsilon"):
        assert story.heard(host) == words("delta", 10) + words("more", 10), host
    (event,) = [each for each in story.domain.csm["alpha"].core.told if each.change == "forgery"]
    assert event.forgery.relay == str(story.domain.world.host("gamma").id)
    assert event.forgery.host == str(story.domain.world.host("delta").id)


@EACH
def test_a_member_of_a_leaf_that_speaks_in_its_agents_name_is_found(mode: str):
    """It is in the roster as an agent's sender ID, and any member of the leaf has its key."""
    story = Story(mode)
    story.talk("alpha", words("alpha", 10))
    delta, gamma = story.domain.msm["delta"], story.domain.msm["gamma"]
    (agent,) = gamma.agents.values()
    path = delta.paths[agent.leaf.group.group_id]
    relay = delta.core.memberships[self_id].roster if (self_id := story.group_id) else {}
    (sender_id,) = [entry.sender_id for entry in relay.values() if entry.relay]
    origin = Origin(story.sender_id("alpha"), max(agent.backbone._keys), 1_000_000).encode()
    packet = forge(path, story.domain.world.domain, sender_id, 1_000_000, origin + b"\x09" + bytes(300))
    for listener in list(story.domain.network._members[path.group.address].values()):
        listener(packet, gamma.address)
    story.talk("alpha", words("more", 10))
    assert story.heard("delta") == words("alpha", 10) + words("more", 10)
    counted = path.counters
    assert counted["source-signature"] + counted["source-malformed"] >= 1


def test_without_source_authentication_the_agent_is_believed():
    """So the tests before can fail."""
    story = Story("none")
    gamma = story.domain.msm["gamma"]
    (agent,) = gamma.agents.values()
    forged = Origin(story.sender_id("delta"), max(agent.leaf._keys), 1_000_000).encode() + b"forged"
    for batch in agent.backbone.relay_batches([forged], 5004, 5004):
        story.domain.network.send(gamma.address, agent.backbone.group.address, bytes(batch.view))
    story.domain.network.run_for(1.0)
    assert story.heard("alpha") == [b"forged"]
    story.talk("delta", words("delta", 10))
    assert story.heard("alpha") == [b"forged"]
