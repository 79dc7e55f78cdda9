"""Memberships that have ended: a host that is still there, and was not thrown out, comes back by itself."""

from __future__ import annotations

import pytest

from mcsa.endpoint import OutgoingRequest
from mcsa.policy import DEFAULTS
from mcsa.v1.msm_pb2 import LeaveGroupRequest
from mcsa.v1.types_pb2 import GroupPolicy
from tests.simulation.conference import ConferenceDomain
from tests.simulation.domain import Domain
from tests.simulation.nodes import Node
from tests.simulation.test_conferences import convened, run_until_keyed
from tests.simulation.test_groups import eject, heard


def test_a_host_whose_renewals_do_not_get_through_comes_back_after_its_lease():
    """The multicast reaches it all the time, and so does the word that its lease has ended."""
    domain = ConferenceDomain(hosts=("alpha", "beta", "gamma"))
    alice, bob, _ = applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    carry = domain.switchboard.request

    def all_but_betas(source: Node, outgoing: OutgoingRequest) -> None:
        if source is not domain.msm["beta"]:
            carry(source, outgoing)

    domain.switchboard.request = all_but_betas  # type: ignore[method-assign]
    domain.network.run_for(1.5 * DEFAULTS.lease_s)
    (membership,) = domain.msm["beta"].core.memberships.values()
    assert membership.state == "stale"
    domain.switchboard.request = carry  # type: ignore[method-assign]
    domain.network.run_for(30.0)
    assert membership.state == "member"
    alice.say(b"welcome back")
    domain.network.run_for(3.0)
    assert ("alice", b"welcome back") in bob.heard


class Gathered(Domain):
    """Alice, bob and carol in one group, whose changes wait for a second; and bob on a second host."""

    def __init__(self) -> None:
        super().__init__(hosts=("alpha", "beta", "gamma", "delta"))
        created = self.create(policy=GroupPolicy(batch_ms=1_000))
        self.description, self.conference_id = created.groups[0], created.conference_id
        self.group_id = self.description.group_id
        for host, user in (("alpha", "alice"), ("beta", "bob"), ("gamma", "carol"), ("delta", "bob")):
            self.join(host, user)
        self.network.run_for(2.0)

    def join(self, host: str, user: str) -> None:
        assert self.csm[host].join(self.description, self.conference_id, user).refused is None

    def membership_of(self, host: str) -> str:
        return self.msm[host].core.memberships[self.group_id].state

    def told(self, host: str) -> list[str]:
        return [changed.change for changed in self.csm[host].core.told]


def test_who_leaves_on_one_host_stays_on_the_other():
    domain = Gathered()
    message = LeaveGroupRequest(group_id=domain.group_id, user=str(domain.world.user("bob").id))
    domain.csm["delta"].ask("leave-group", message)
    domain.network.run_for(3.0)
    assert domain.membership_of("beta") == "member"
    assert domain.msm["alpha"].send(domain.group_id, b"still here?")
    domain.network.run_for(1.0)
    assert heard(domain.msm["beta"], domain.group_id) == [b"still here?"]


@pytest.mark.parametrize("host", ["beta", "delta"])
def test_who_registers_anew_while_another_one_is_thrown_out_is_not_thrown_out(host: str):
    """One update tells of both."""
    domain = Gathered()
    domain.network.at(domain.network.now + 0.2, lambda: eject(domain, "carol"))
    domain.join(host, "bob")
    domain.network.run_for(3.0)
    assert domain.membership_of("gamma") == "ejected"
    assert domain.membership_of(host) == "member"
    assert "ejected" not in domain.told(host)
    assert "ejected" in domain.told("gamma")


def test_whose_lease_ends_while_another_one_is_thrown_out_is_not_thrown_out():
    """Likewise."""
    domain = Gathered()
    carry = domain.switchboard.request

    def all_but_betas(source: Node, outgoing: OutgoingRequest) -> None:
        if source is not domain.msm["beta"]:
            carry(source, outgoing)

    domain.switchboard.request = all_but_betas  # type: ignore[method-assign]
    group, beta = domain.authorizer.core.groups[domain.group_id], str(domain.world.host("beta").id)
    assert domain.network.run_until(lambda: beta in group.batch.leaving, 2 * DEFAULTS.lease_s)
    eject(domain, "carol")
    domain.network.run_for(3.0)
    assert beta not in group.members
    assert domain.membership_of("gamma") == "ejected"
    assert domain.membership_of("beta") == "stale"


def test_who_is_thrown_out_is_out_on_all_hosts():
    domain = Gathered()
    eject(domain, "bob")
    domain.network.run_for(3.0)
    assert [domain.membership_of(host) for host in ("alpha", "beta", "gamma", "delta")] == [
        "member",
        "ejected",
        "member",
        "ejected",
    ]
