"""Members that serve joins (`cbt`: all; `kd`: those appointed), with the Authorizer there, and without."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from mcsa.distribution import sign_right
from mcsa.endpoint import OutgoingRequest, Request
from mcsa.membership import Membership
from mcsa.v1.authorizer_pb2 import AccessList, AdoptRequest
from mcsa.v1.msm_pb2 import LeaveGroupRequest, ListSessionsRequest
from mcsa.v1.types_pb2 import POLICY_CLASS_OPEN, GroupPolicy
from services.authorizer.blocks import DISTRIBUTORS, SENDER_IDS
from services.msm.distributing import _Post
from tests.simulation.domain import Domain
from tests.simulation.nodes import Node
from tests.simulation.test_groups import eject, heard

HOSTS = ("alpha", "beta", "gamma", "delta", "epsilon")
USERS = dict(zip(HOSTS, ("alice", "bob", "carol", "dave", "erin"), strict=True))


class Distributed(Domain):
    """A conference of one group whose members serve joins."""

    def __init__(self, gkm: str = "cbt", seed: int = 1, **policy: int | str) -> None:
        super().__init__(seed, hosts=HOSTS)
        created = self.create(acceptable=tuple(USERS.values()), policy=GroupPolicy(gkm=gkm, **policy))  # type: ignore[arg-type]
        self.description, self.conference_id = created.groups[0], created.conference_id
        self.group_id = self.description.group_id

    def join(self, *hosts: str, user: str = "") -> None:
        for host in hosts:
            outcome = self.csm[host].join(self.description, self.conference_id, user or USERS[host])
            assert outcome.refused is None, outcome.refused
            self.network.run_for(1.0)

    def stop_authorizer(self) -> None:
        self.authorizer.kill()

    def membership(self, host: str) -> Membership:
        return self.msm[host].core.memberships[self.group_id]

    @property
    def group(self):
        return self.authorizer.core.groups[self.group_id]

    def served(self, host: str) -> int:
        """How many this host has welcomed."""
        return self.msm[host].endpoint.counters["distributed"]

    def serving(self) -> set[str]:
        return {name for name, node in self.msm.items() if self.group_id in node.distributes}

    def told(self, host: str) -> list[str]:
        return [changed.change for changed in self.csm[host].core.told]


def keep_reports_back(domain: Distributed) -> Callable[[Node, OutgoingRequest], None]:
    """The bus carries no report from now on; returns what carries them."""
    carry = domain.switchboard.request

    def keep_back(source: Node, outgoing: OutgoingRequest) -> None:
        if not outgoing.subject.endswith(".adopt"):
            carry(source, outgoing)

    domain.switchboard.request = keep_back  # type: ignore[method-assign]
    return carry


def test_the_first_comes_to_the_authorizer_and_the_next_to_a_member():
    domain = Distributed()
    domain.join("alpha")
    assert domain.msm["alpha"].endpoint.counters["distributor.nobody-serves"] == 1
    assert domain.serving() == {"alpha"}
    epoch = domain.group.epoch
    domain.join("beta")
    assert domain.served("alpha") == 1
    assert domain.authorizer.endpoint.counters["flushes"] == 2
    assert domain.group.epoch == epoch  # the key stays
    block = domain.group.blocks.of(str(domain.world.host("alpha").id))
    assert domain.membership("beta").sender_id in block.used
    for host, other in (("alpha", "beta"), ("beta", "alpha")):
        assert domain.msm[host].send(domain.group_id, host.encode())
        domain.network.run_for(0.5)
        assert heard(domain.msm[other], domain.group_id) == [host.encode()]
    assert domain.serving() == {"alpha", "beta"}  # who was welcomed serves joins in its turn


def test_without_the_authorizer_a_host_joins_at_a_member_and_is_heard_when_the_authorizer_is_back():
    domain = Distributed()
    domain.join("alpha", "beta")
    domain.stop_authorizer()
    domain.join("gamma")
    assert domain.served("alpha") + domain.served("beta") == 2
    assert domain.msm["alpha"].send(domain.group_id, b"welcome")
    domain.network.run_for(0.5)
    assert heard(domain.msm["gamma"], domain.group_id) == [b"welcome"]
    # nobody but the Authorizer says that gamma may be heard: until then it says nothing
    assert not domain.msm["gamma"].send(domain.group_id, b"too early")
    assert "gamma" not in {entry.host.rsplit("/", 1)[1] for entry in domain.membership("alpha").roster.values()}
    domain.start_authorizer(domain.state)
    domain.network.run_for(5.0)
    assert str(domain.world.host("gamma").id) in domain.group.members
    assert "statement-needed" not in domain.told("gamma")
    assert domain.membership("gamma").epoch == domain.group.epoch
    assert domain.msm["gamma"].send(domain.group_id, b"here I am")
    domain.network.run_for(0.5)
    for host in ("alpha", "beta"):
        assert heard(domain.msm[host], domain.group_id)[-1] == b"here I am"
    users = domain.group.roster[domain.membership("gamma").sender_id].users
    assert users == [str(domain.world.user("carol").id)]


def test_of_kd_only_those_serve_that_were_appointed_and_others_take_their_place():
    domain = Distributed("kd")
    domain.join(*HOSTS)
    domain.network.run_for(25.0)
    first = domain.serving()
    assert first == set(HOSTS[:DISTRIBUTORS])
    assert sum(domain.served(host) for host in HOSTS[DISTRIBUTORS:]) == 0
    domain.restart_msm("alpha")  # its lease ends, or it comes back: either way it is another one now
    domain.network.run_for(90.0)
    assert domain.serving() == {"beta", "gamma", "delta"}


def test_an_operator_says_which_hosts_may_serve_joins():
    domain = Distributed()
    domain.group.blocks._permitted = ("*/host/beta",)
    domain.join("alpha", "beta", "gamma")
    assert domain.serving() == {"beta"}


def test_a_protocol_whose_members_serve_no_joins_asks_nobody_near():
    domain = Distributed("lkh")
    domain.join("alpha", "beta")
    assert domain.serving() == set()
    assert not [f for f in domain.network.frames if "distributor" in f.destination]
    assert len(domain.group.blocks.records()) == 0


@pytest.mark.parametrize("gkm", ["cbt", "kd"])
def test_no_sender_id_is_given_twice_whoever_gives_it(gkm: str):
    """Distributors, the Authorizer, both with restarts of everybody."""
    domain = Distributed(gkm, seed=3)
    domain.join(*HOSTS)
    given = [domain.membership(host).sender_id or 0 for host in HOSTS]
    for round_ in range(4):
        for host in HOSTS[1:]:
            domain.restart_msm(host)
            domain.join(host)
            given.append(domain.membership(host).sender_id or 0)
        if round_ % 2:
            domain.restart_authorizer()
            domain.network.run_for(2.0)
    assert 0 not in given
    assert len(set(given)) == len(given)


def test_a_distributor_that_restarts_never_goes_on_with_an_old_block():
    domain = Distributed()
    domain.join("alpha", "beta")
    host = str(domain.world.host("alpha").id)
    old = domain.group.blocks.of(host)
    domain.restart_msm("alpha")
    domain.join("alpha")
    domain.network.run_for(25.0)
    new = domain.group.blocks.of(host)
    assert new.first_sender_id >= old.first_sender_id + SENDER_IDS
    assert not new.used
    assert domain.msm["alpha"].core._distributing._posts[domain.group_id].next_sender_id == new.first_sender_id


def test_blocks_survive_the_authorizers_restart_by_entries_and_by_snapshot():
    domain = Distributed(lease_s=600, beacon_ms=20_000, beacon_silence_ms=120_000)  # little happens in an hour
    domain.join("alpha", "beta", "gamma")
    before = domain.group.blocks.records()
    assert sum(len(block.used) for block in before) == 2
    for _ in range(2):  # the second time from a snapshot
        domain.restart_authorizer()
        domain.network.run_for(2.0)
        assert domain.group.blocks.records() == before
        assert all(block.first_sender_id + SENDER_IDS <= domain.group.sender_ids.next for block in before)
        domain.network.run_for(3_700.0)
    domain.join("delta")
    assert sum(len(block.used) for block in domain.group.blocks.records()) == 3


def test_a_used_up_block_is_followed_by_another_one():
    domain = Distributed()
    domain.join("alpha")
    block = domain.group.blocks.of(str(domain.world.host("alpha").id))
    for _ in range(SENDER_IDS):
        domain.restart_msm("beta")
        domain.join("beta")
        domain.msm["beta"].distributes.clear()
    assert domain.served("alpha") == SENDER_IDS
    assert block.used == set(range(block.first_sender_id, block.first_sender_id + SENDER_IDS))
    assert domain.serving() == set()
    domain.network.run_for(50.0)
    assert "alpha" in domain.serving()
    domain.restart_msm("beta")
    domain.join("beta")
    assert domain.served("alpha") == SENDER_IDS + 1


def test_a_silenced_distributor_serves_no_joins():
    domain = Distributed(beacon_silence_ms=3_000)
    domain.join("alpha")
    assert domain.serving() == {"alpha"}
    domain.stop_authorizer()
    domain.network.run_for(4.0)
    assert domain.membership("alpha").state == "silenced"
    assert domain.serving() == set()
    outcome = domain.csm["beta"].join(domain.description, domain.conference_id, "bob")
    assert outcome.refused is not None and outcome.refused.code == "no-answer"
    domain.start_authorizer(domain.state)
    domain.network.run_for(3.0)
    assert domain.serving() == {"alpha"}


def test_a_right_ends_by_itself_where_it_is_not_renewed():
    domain = Distributed(beacon_silence_ms=600_000, lease_s=1_000)
    domain.join("alpha")
    domain.stop_authorizer()
    domain.network.run_for(298.0)
    assert domain.serving() == {"alpha"}
    domain.network.run_for(5.0)
    assert domain.serving() == set()


def test_who_was_thrown_out_is_refused_by_a_distributor_that_heard_it():
    domain = Distributed()
    domain.join("alpha", "beta", "gamma")
    eject(domain, "carol")
    domain.network.run_for(1.0)
    epoch = domain.group.epoch
    served = [domain.served(host) for host in HOSTS]
    refused = domain.csm["delta"].join(domain.description, domain.conference_id, "carol").refused
    assert refused is not None and refused.rule == "unacceptable-user"  # the Authorizer's word, who was asked next
    assert [domain.served(host) for host in HOSTS] == served
    assert domain.msm["delta"].endpoint.counters["distributor.refused"] == 1
    assert domain.group.epoch == epoch


def test_who_was_thrown_out_gets_in_at_a_distributor_that_has_not_heard_it_until_its_report_forces_a_new_key():
    domain = Distributed()
    domain.join("alpha", "beta", "gamma")
    beta = domain.msm["beta"]
    beta.told = lambda subject, raw: None  # type: ignore[method-assign]
    domain.network.drops.append(lambda frame, host: host == beta.address)
    domain.msm["alpha"].distributes.clear()
    domain.msm["gamma"].distributes.clear()
    # the ejection reaches the Authorizer's list before its update reaches beta: gamma was thrown out in this epoch
    domain.authorizer.core.conferences[domain.conference_id].ban(str(domain.world.user("dave").id))
    epoch = domain.group.epoch
    assert domain.csm["delta"].join(domain.description, domain.conference_id, "dave").refused is None
    assert domain.served("beta") == 1
    assert domain.membership("delta").epoch == epoch  # it has the keys of this epoch
    domain.network.run_for(1.0)
    assert domain.group.epoch > epoch
    assert domain.membership("alpha").epoch == domain.group.epoch
    assert domain.membership("delta").epoch == epoch
    assert domain.told("delta")[-1] == "statement-needed"
    assert str(domain.world.host("delta").id) not in domain.group.members
    assert domain.msm["alpha"].send(domain.group_id, b"without dave")
    domain.network.run_for(0.5)
    assert b"without dave" in heard(domain.msm["gamma"], domain.group_id)
    assert b"without dave" not in heard(domain.msm["delta"], domain.group_id)
    refused = domain.csm["delta"].join(domain.description, domain.conference_id, "dave").refused
    assert refused is not None and refused.rule == "unacceptable-user"
    assert beta.endpoint.counters["not-adopted.not-allowed"] == 1


def test_an_ejection_replaces_the_key_also_where_the_ejected_is_known_to_nobody_but_a_distributor():
    domain = Distributed()
    domain.join("alpha", "beta")
    alpha, beta = domain.msm["alpha"], domain.msm["beta"]
    beta.distributes.clear()
    carry = keep_reports_back(domain)
    domain.join("gamma")
    assert domain.served("alpha") == 2
    assert str(domain.world.host("gamma").id) not in domain.group.members
    epoch = domain.group.epoch
    eject(domain, "carol")
    domain.network.run_for(0.5)
    assert domain.group.epoch > epoch
    assert domain.membership("gamma").epoch == epoch
    domain.switchboard.request = carry  # type: ignore[method-assign, assignment]
    domain.network.run_for(10.0)
    assert str(domain.world.host("gamma").id) not in domain.group.members
    assert domain.membership("alpha").epoch == domain.membership("beta").epoch == domain.group.epoch
    assert alpha.core._distributing.reports.any_of(domain.group_id) is False


def test_a_member_that_a_distributor_welcomed_and_never_reported_registers_by_itself():
    domain = Distributed()
    domain.join("alpha")
    alpha = domain.msm["alpha"]
    keep_reports_back(domain)
    domain.csm["beta"].join(domain.description, domain.conference_id, "bob")
    alpha.kill()
    domain.network.run_for(6.0)
    assert domain.told("beta")[-1] == "statement-needed"
    domain.join("beta")
    assert domain.membership("beta").sender_id in domain.group.roster
    assert domain.membership("beta").state == "member"


@pytest.mark.parametrize("mode", ["none", "signature"])
def test_who_was_never_reported_registers_also_where_the_key_stays(mode: str):
    """The epoch that the Authorizer lets it into is the one that it was welcomed to."""
    domain = Distributed(keep_key_on_join=True, source_authentication=mode)
    domain.join("alpha", "gamma")
    domain.msm["gamma"].distributes.clear()
    keep_reports_back(domain)
    domain.csm["beta"].join(domain.description, domain.conference_id, "bob")
    domain.msm["alpha"].kill()
    domain.network.run_for(6.0)
    epoch = domain.membership("beta").epoch
    domain.join("beta")
    assert (domain.membership("beta").state, domain.membership("beta").epoch) == ("member", epoch)
    for host, other in (("gamma", "beta"), ("beta", "gamma")):
        assert domain.msm[host].send(domain.group_id, host.encode())
        domain.network.run_for(1.0)
        assert heard(domain.msm[other], domain.group_id) == [host.encode()]


def test_who_leaves_and_who_stays_after_adoptions():
    """Everybody joined at a member; then a rekey where somebody left: the adopted follow it."""
    domain = Distributed()
    domain.join(*HOSTS)
    assert sum(domain.served(host) for host in HOSTS) == 4
    eject(domain, "erin")
    domain.network.run_for(1.0)
    for host in HOSTS[:4]:
        assert domain.membership(host).epoch == domain.group.epoch, host
        assert domain.msm[host].send(domain.group_id, host.encode())
    domain.network.run_for(0.5)
    for host in HOSTS[:4]:
        assert len(heard(domain.msm[host], domain.group_id)) == 3
    assert domain.membership("epsilon").state == "ejected"


def test_bus_trouble_costs_a_second_and_no_join():
    domain = Distributed()
    domain.join("alpha")
    domain.msm["alpha"].alive = False  # stopped: it takes requests and answers none
    began = domain.network.now
    assert domain.csm["beta"].join(domain.description, domain.conference_id, "bob").refused is None
    assert 1.0 <= domain.network.now - began < 1.5
    assert domain.msm["beta"].endpoint.counters["distributor.no-answer"] == 1


def test_who_is_adopted_by_the_same_update_that_replaces_the_key_sends_under_the_new_one():
    domain = Distributed()
    domain.join("alpha")
    carry = keep_reports_back(domain)
    domain.join("beta")
    domain.msm["alpha"].distributes.clear()  # gamma goes to the Authorizer
    domain.switchboard.request = carry  # type: ignore[method-assign, assignment]
    epoch = domain.group.epoch
    for pending in domain.msm["alpha"].endpoint._pending.values():
        pending.repeat_at = domain.network.now  # the report, once more
    domain.msm["alpha"].perform(domain.msm["alpha"].endpoint.tick(domain.network.now))
    assert domain.csm["gamma"].join(domain.description, domain.conference_id, "carol").refused is None
    assert domain.group.number == 2
    domain.network.run_for(0.1)
    assert domain.membership("beta").sender_id == domain.group.blocks.of(str(domain.world.host("alpha").id)).used.pop()
    assert not domain.msm["beta"].send(domain.group_id, b"before the activation delay")
    domain.network.run_for(1.0)
    assert domain.membership("beta").epoch == domain.group.epoch > epoch
    assert domain.msm["beta"].send(domain.group_id, b"after it")
    domain.network.run_for(0.5)
    assert heard(domain.msm["gamma"], domain.group_id) == [b"after it"]


def test_whom_the_authorizer_knows_by_another_sender_id_registers_again():
    """A distributor that told the newcomer one and the Authorizer another."""
    domain = Distributed()
    domain.join("alpha")
    reports = domain.msm["alpha"].core._distributing.reports
    begin = reports.begin

    def lie(message: AdoptRequest, *more: Any) -> Request:
        message.sender_id += 1
        return begin(message, *more)

    reports.begin = lie  # type: ignore[method-assign, assignment]
    domain.join("beta")
    assert "statement-needed" in domain.told("beta")
    domain.join("beta")
    assert domain.group.roster[domain.membership("beta").sender_id].host == str(domain.world.host("beta").id)


def test_that_nobody_serves_is_an_answer_only_where_anybody_was_asked():
    domain = Distributed()
    domain.stop_authorizer()
    alpha = domain.msm["alpha"]
    domain.csm["alpha"].ask("list-sessions", ListSessionsRequest(), within=0.1)
    waiting = list(alpha.endpoint._pending)
    assert len(waiting) == 1
    assert alpha.endpoint.nobody_serves(waiting[0], domain.network.now) == []
    assert alpha.endpoint.nobody_serves(b"unknown", domain.network.now) == []
    assert list(alpha.endpoint._pending) == waiting


# ---- distributors that lie, to a newcomer


def unsigned(domain: Distributed, post: _Post) -> None:
    post.signed.Clear()


def signed_by_itself(domain: Distributed, post: _Post) -> None:
    post.signed.CopyFrom(sign_right(domain.world.host("alpha"), post.right))


def anothers(domain: Distributed, post: _Post) -> None:
    post.right.distributor = str(domain.world.host("delta").id)
    post.signed.CopyFrom(sign_right(domain.world.authorizer, post.right))


def of_another_group(domain: Distributed, post: _Post) -> None:
    post.right.group_id = bytes(16)
    post.signed.CopyFrom(sign_right(domain.world.authorizer, post.right))


def expired(domain: Distributed, post: _Post) -> None:
    expires_ms, post.right.expires_ms = post.right.expires_ms, round((domain.network.now - 31) * 1000)
    post.signed.CopyFrom(sign_right(domain.world.authorizer, post.right))
    post.right.expires_ms = expires_ms


def stretched(domain: Distributed, post: _Post) -> None:
    post.right.sender_ids = 4_000
    post.signed.statement = post.right.SerializeToString()


def outside_its_block(domain: Distributed, post: _Post) -> None:
    post.next_sender_id = post.right.first_sender_id - 1


def of_another_authority(domain: Distributed, post: _Post) -> None:
    """As if its keys were of another group than the Authorizer's."""
    post.right.authority_public_key = bytes(31) + b"1"
    post.signed.CopyFrom(sign_right(domain.world.authorizer, post.right))


def of_another_policy(domain: Distributed, post: _Post) -> None:
    domain.membership("alpha").group.policy.beacon_silence_ms = 600_000


def of_another_conference(domain: Distributed, post: _Post) -> None:
    domain.membership("alpha").conference_id = bytes(16)


@pytest.mark.parametrize(
    ("lie", "cause"),
    [
        (unsigned, "certificate"),
        (signed_by_itself, "kind"),
        (anothers, "right"),
        (of_another_group, "right"),
        (expired, "right"),
        (stretched, "signature"),
        (outside_its_block, "sender-id"),
        (of_another_authority, "authority"),
        (of_another_policy, "association"),
        (of_another_conference, "association"),
    ],
)
def test_a_distributor_that_lies_is_not_believed_and_the_authorizer_is_asked(
    lie: Callable[[Distributed, _Post], None], cause: str
):
    domain = Distributed()
    domain.join("alpha")
    lie(domain, domain.msm["alpha"].core._distributing._posts[domain.group_id])
    domain.join("beta")
    assert domain.served("alpha") == 1
    assert domain.msm["beta"].endpoint.counters[f"rejected.distributor.{cause}"] == 1
    membership = domain.membership("beta")
    assert (membership.state, membership.epoch) == ("member", domain.group.epoch)
    assert domain.group.roster[membership.sender_id].host == str(domain.world.host("beta").id)
    assert domain.msm["beta"].send(domain.group_id, b"here")
    domain.network.run_for(0.5)
    assert heard(domain.msm["alpha"], domain.group_id) == [b"here"]


def test_a_distributor_that_gives_away_what_is_not_its_own_loses_its_block_and_those_it_welcomed():
    domain = Distributed()
    domain.join("alpha")
    epoch = domain.group.epoch
    outside_its_block(domain, domain.msm["alpha"].core._distributing._posts[domain.group_id])
    domain.join("beta")
    assert domain.group.formed_epoch > epoch
    assert domain.msm["alpha"].endpoint.counters["not-adopted.sender-id"] == 1
    domain.network.run_for(25.0)
    assert domain.serving() == {"beta"}
    domain.restart_authorizer()
    domain.network.run_for(25.0)
    assert domain.serving() == {"beta"}


def test_an_access_list_that_is_not_the_one_of_the_right_is_not_taken():
    domain = Distributed()
    domain.join("alpha")
    alpha = domain.msm["alpha"]
    post = alpha.core._distributing._posts.pop(domain.group_id)
    altered = AccessList.FromString(post.raw_access_list)
    altered.policy_class = POLICY_CLASS_OPEN
    taken = alpha.core._distributing._take(
        domain.membership("alpha"), post.signed, altered.SerializeToString(), domain.network.now
    )
    assert [count.name for count in taken] == ["rejected.right.access-list"]
    assert domain.group_id not in alpha.core._distributing._posts
    domain.network.run_for(25.0)  # the next renewal brings the true one
    assert domain.serving() == {"alpha"}


def test_a_new_access_list_comes_with_the_next_renewal():
    domain = Distributed()
    domain.join("alpha", "beta")
    carol = str(domain.world.user("carol").id)
    eject(domain, "carol")
    domain.network.run_for(25.0)
    for host in ("alpha", "beta"):
        post = domain.msm[host].core._distributing._posts[domain.group_id]
        assert list(post.access.access.unacceptable_users) == [carol]
    bus = b"".join(frame.raw for frame in domain.network.frames if frame.way == "bus" and frame.source == "authorizer")
    assert str(domain.world.user("erin").id).encode() not in bus  # who may join is sealed


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("gkm", ["cbt", "kd"])
def test_whatever_happens_those_that_are_in_agree_in_the_end(gkm: str, seed: int):
    """Joins, leaves, restarts of everybody in any order; then all that have to join again, and hear each other."""
    domain = Distributed(gkm, seed=seed + 20)
    chance, given = Random(seed), set[int]()
    for _ in range(25):
        host = chance.choice(HOSTS)
        match chance.choice(["join", "join", "join", "leave", "restart", "authorizer"]):
            case "join":
                domain.csm[host].join(domain.description, domain.conference_id, USERS[host])
            case "leave":
                user = str(domain.world.user(USERS[host]).id)
                domain.csm[host].ask("leave-group", LeaveGroupRequest(group_id=domain.group_id, user=user))
            case "restart":
                domain.restart_msm(host)
            case "authorizer":
                domain.stop_authorizer()
                domain.network.run_for(chance.random() * 4)
                domain.start_authorizer(domain.state)
        domain.network.run_for(chance.random() * 3)
    domain.network.run_for(70.0)  # leases of those that are gone
    for host in HOSTS:
        membership = domain.msm[host].core.memberships.get(domain.group_id)
        if membership is None or membership.state != "member":
            domain.join(host)
    domain.network.run_for(10.0)
    for host in HOSTS:
        membership = domain.membership(host)
        assert (membership.state, membership.epoch) == ("member", domain.group.epoch), host
        assert list(membership.roster.values()) == list(domain.group.roster.values())
        assert membership.sender_id is not None and membership.sender_id not in given
        given.add(membership.sender_id)
        assert domain.msm[host].send(domain.group_id, host.encode())
    domain.network.run_for(1.0)
    for host in HOSTS:
        assert {payload.decode() for payload in heard(domain.msm[host], domain.group_id)} >= set(HOSTS) - {host}
