"""Members of a group of subgroups (Iolus), agents among them, that do what they shouldn't."""

from __future__ import annotations

from typing import Any

from mcsa.endpoint import OutgoingRequest
from mcsa.v1.authorizer_pb2 import RegisterRequest
from services.msm.core import MsmCore
from tests.simulation.nodes import Node
from tests.simulation.test_subgroups_histories import HOSTS, USERS, Subgroups, check_star

STANDING_BY = 30  # rounds of at least two seconds


def five(**policy: Any) -> Subgroups:
    """alpha and beta in the backbone; gamma, an agent, with delta; epsilon, an agent, alone."""
    domain = Subgroups(**policy)
    for host in HOSTS[:5]:
        domain.join(host)
    domain.network.run_for(3.0)
    return domain


def altered(domain: Subgroups, host: str, **changes: Any) -> None:
    """A host's registrations have something else in them from now on."""
    core: MsmCore = domain.msm[host].core
    register = core._register

    def lie(*args: Any, **kwargs: Any) -> list[Any]:
        effects = register(*args, **kwargs)
        for effect in effects:
            assert isinstance(effect.message, RegisterRequest)
            effect.message.MergeFrom(RegisterRequest(**changes))
        return effects

    core._register = lie  # type: ignore[method-assign]


def test_keys_that_nothing_can_be_done_with_keep_nobody_else_from_a_new_subgroup():
    domain = Subgroups()
    for host in HOSTS[:4]:
        domain.join(host)
    altered(domain, "epsilon", gkm_contribution=b"short")
    refused = domain.csm["epsilon"].join(domain.description, domain.conference_id, USERS["epsilon"]).refused
    assert refused is not None and refused.code == "key-material"
    domain.join("zeta")  # into the subgroup that was made for epsilon
    assert len(domain.subgroups) == 3


def test_a_host_chooses_no_subgroup():
    domain = five()
    leaf = domain.subgroups[2]
    request = domain.csm["zeta"]
    description = leaf.description
    refused = request.join(description, domain.conference_id, USERS["zeta"]).refused
    assert refused is not None and refused.rule == "subgroups"
    assert len(leaf.members) == 1


def test_an_agent_that_is_thrown_out_has_no_key_of_either_subgroup_when_the_ejection_is_answered():
    domain = five()
    gamma = domain.msm["gamma"]
    domain.eject("gamma", by="alpha")
    held = domain.history.held[gamma.name]
    assert {(group.id, group.told.epoch) for group in domain.subgroups[:2]}.isdisjoint(held)
    backbone = domain.msm["alpha"].core.memberships[domain.group_id]
    domain.network.run_for(0.01)  # nor is it spoken to with one that it has
    assert (backbone.group.group_id, backbone._sending_epoch) not in held


def test_an_agent_whose_subgroup_began_anew_is_thrown_out_of_the_backbone_all_the_same():
    domain = five()
    kept, leaf = domain.authorizer.core._kept, domain.subgroups[2]
    domain.msm["epsilon"].hang()
    domain.authorizer.perform(kept.begin_anew(leaf, domain.network.now))
    domain.network.run_for(1.0)
    assert not any(member.host.endswith("epsilon#relay") for member in domain.subgroups[0].members)
    senders = {entry.host.rpartition("/")[2] for entry in domain.subgroups[0].distant.values()}
    assert senders == {"gamma", "delta"}


def test_an_agent_moves_to_the_backbone():
    domain = five()
    domain.leave("alpha")
    domain.network.run_for(1.0)
    leaf = domain.subgroups[2]
    leaf.remove_host(str(domain.world.host("epsilon").id), domain.network.now)
    domain.authorizer.perform(domain.authorizer.core._kept.flush_if_due(leaf, leaf.batch.due_at or 0))
    domain.network.run_for(1.0)
    domain.join("epsilon")
    domain.network.run_for(3.0)
    assert domain.membership("epsilon").group.group_id == domain.group_id  # type: ignore[union-attr]
    for host in ("beta", "gamma", "delta", "epsilon"):
        assert domain.msm[host].send(domain.group_id, host.encode())
        domain.network.run_for(0.5)
    for host in ("beta", "gamma", "delta", "epsilon"):
        assert set(domain.heard(host)) == {b"beta", b"gamma", b"delta", b"epsilon"} - {host.encode()}


def test_a_host_that_moves_under_a_key_that_stays_takes_an_older_epoch():
    domain = five(keep_key_on_join=True)
    domain.leave("alpha")
    domain.network.run_for(1.0)
    leaf = domain.subgroups[1]
    domain.age_key(leaf.id)  # its epoch is the latest of all now
    domain.network.run_for(1.0)
    leaf.remove_host(str(domain.world.host("delta").id), domain.network.now)
    domain.authorizer.perform(domain.authorizer.core._kept.flush_if_due(leaf, leaf.batch.due_at or 0))
    domain.network.run_for(1.0)
    domain.join("delta")
    domain.network.run_for(3.0)
    assert domain.membership("delta").group.group_id == domain.group_id  # type: ignore[union-attr]
    assert domain.is_in("delta")


def test_agents_that_are_still_to_come_make_no_room_in_the_backbone():
    domain = Subgroups()
    for host in HOSTS[:3]:
        domain.join(host)
    domain.network.run_for(1.0)
    backbone = domain.subgroups[0]
    backbone.remove_host(str(domain.world.host("gamma").id) + "#relay", domain.network.now)
    domain.authorizer.perform(domain.authorizer.core._kept.flush_if_due(backbone, backbone.batch.due_at or 0))
    star = domain.authorizer.core._kept.star(domain.group_id)
    assert star is not None and star.with_room() is domain.subgroups[1]


def test_a_relaying_agent_that_is_silenced_in_its_subgroup_carries_nothing_from_there():
    """Somebody keeps an ejection from the agent, so that the ejected would go on talking through it."""
    domain = five(beacon_silence_ms=3_000)
    gamma, delta = domain.msm["gamma"], domain.msm["delta"]
    leaf = domain.subgroups[1]
    tell, carry = domain.switchboard.publish, domain.switchboard.request

    def publish(source: Node, subject: str, raw: bytes) -> None:
        if leaf.id.hex() not in subject:
            tell(source, subject, raw)

    def request(source: Node, outgoing: OutgoingRequest) -> None:
        if source is not gamma:
            carry(source, outgoing)

    domain.switchboard.publish, domain.switchboard.request = publish, request  # type: ignore[method-assign]
    authorizer, address = domain.authorizer.address, leaf.description.address
    domain.network.drops.append(lambda frame, host: frame.source == authorizer and frame.destination == address)
    domain.eject("delta", by="alpha")
    domain.network.run_for(1.0)
    assert delta.send(domain.group_id, b"who was thrown out")
    domain.network.run_for(3.0)
    agent = gamma.agents[leaf.id]
    assert agent.counters["up.relayed"]  # the agent doesn't know it yet; all that follow their groups do
    assert domain.msm["alpha"].paths[domain.group_id].counters["relayed-unknown"] == 1
    assert gamma.core.memberships[domain.group_id].state == "silenced"
    relayed = agent.counters["up.relayed"]
    path = delta.paths[leaf.id]
    path._sending.paused = False
    sealed = path.seal(b"still talking", 5004, 5004)
    assert sealed is not None
    domain.network.send(delta.address, leaf.description.address, sealed)
    domain.network.run_for(1.0)
    assert (agent.counters["up.relayed"], agent.counters["up.silenced"]) == (relayed, 1)
    for host in ("alpha", "beta", "epsilon"):
        assert not {b"who was thrown out", b"still talking"} & set(domain.heard(host)), host


def test_a_process_that_wakes_up_finds_the_subgroup_that_another_has_added_meanwhile():
    domain = Subgroups()
    domain.join("alpha")
    domain.join("beta")
    old = domain.authorizer
    old.hang()
    domain.start_authorizer(domain.state)
    domain.network.run_for(3.0)
    domain.join("gamma")
    domain.network.run_for(2.0)
    domain.authorizer.kill()
    old.wake()
    domain.authorizer = old
    for _ in range(STANDING_BY):
        for host in HOSTS[:5]:
            if not domain.is_in(host):
                domain.csm[host].join(domain.description, domain.conference_id, USERS[host])
        domain.network.run_for(2.0)
    check_star(domain, list(HOSTS[:5]))
    assert [alarm.what for alarm in old.alarms] == ["fenced"]
    domain.eject("gamma", by="alpha")
