"""Two domains with an Authorizer each hold one conference: B's is a member and a delegate of A's (scheme `kd`)."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from google.protobuf.message import Message

from mcsa.endpoint import Request
from mcsa.envelope import sign_envelope
from mcsa.gkm import scheme_named
from mcsa.identity import Credentials
from mcsa.registration import sign_user_statement
from mcsa.sealing import SealingKey
from mcsa.statements import EVICTION_LABEL
from mcsa.v1.authorizer_pb2 import (
    AdoptRequest,
    CreateRequest,
    Eviction,
    EvictRequest,
    LeaveRequest,
    RegisterRequest,
    UserStatement,
)
from mcsa.v1.msm_pb2 import EvictMemberRequest, LeaveGroupRequest
from mcsa.v1.types_pb2 import GroupPolicy
from services.authorizer.branch import Branch
from services.authorizer.events import HomeTold
from services.authorizer.group import Group
from tests.simulation.nodes import AskingNode
from tests.simulation.two_domains import TwoDomains
from tests.world import seeded

SEEDS = count(500)
BOB, BELA = "spiffe://b.example/user/bob", "spiffe://b.example/user/bela"


class Story:
    """Alice on alpha and anna on amber of A, bob on beta and bela on gamma of B; one group, keyed by `kd`."""

    def __init__(self, seed: int = 1, policy: GroupPolicy | None = None) -> None:
        self.two = two = TwoDomains(seed, None, ("alpha", "amber"), ("beta", "gamma"), subordinate=True)
        self.network = two.network
        acceptable = ("spiffe://a.example/user/anna", BOB, BELA)
        policy = policy or GroupPolicy(gkm="kd")
        self.conference_id = two.a.application("alpha", "alice").convene(
            acceptable, policy=policy, wait=3_600.0, expected=()
        )
        self.network.run_for(2.0)
        self.description = two.a.authorizer.core.conferences[self.conference_id].groups[0]
        self.group_id = self.description.group_id

    def join(self, domain: str, host: str, user: str) -> str:
        """What it is refused with; empty where it is in."""
        side = getattr(self.two, domain)
        node = AskingNode(side.world, side.switchboard, host, next(SEEDS))
        outcome = node.join(self.description, self.conference_id, user, str(self.two.a.world.authorizer.id))
        node.kill()
        self.network.run_for(1.0)
        return "" if outcome.refused is None else outcome.refused.rule

    @property
    def group(self) -> Group:
        return self.two.a.authorizer.core.groups[self.group_id]

    @property
    def branch(self) -> Branch:
        return self.two.b.authorizer.core._branches.groups[self.group_id]

    def gathered(self) -> Story:
        assert not self.join("a", "amber", "anna")
        assert not self.join("b", "beta", "bob")
        assert not self.join("b", "gamma", "bela")
        return self

    def say(self, domain: str, host: str, payload: bytes) -> None:
        assert getattr(self.two, domain).msm[host].send(self.group_id, payload, 9_000)
        self.network.run_for(1.0)

    def heard(self, domain: str, host: str, payload: bytes) -> int:
        received = getattr(self.two, domain).msm[host].received[self.group_id]
        return sum(item.payload == payload for item in received)

    def epochs(self) -> set[int]:
        sides = ((self.two.a, ("alpha", "amber")), (self.two.b, ("beta", "gamma")))
        return {side.msm[host].core.memberships[self.group_id].epoch for side, hosts in sides for host in hosts}


@pytest.fixture
def story() -> Story:
    return Story().gathered()


def test_hosts_of_both_domains_hear_each_other(story: Story) -> None:
    assert story.epochs() == {story.group.epoch}
    everybody = [("a", "alpha"), ("a", "amber"), ("b", "beta"), ("b", "gamma")]
    for domain, host in everybody:
        story.say(domain, host, host.encode())
        for other in everybody:
            assert story.heard(*other, host.encode()) == (other != (domain, host)), (host, other)


def test_a_s_authorizer_admits_everybody_and_b_s_gives_sender_ids_of_its_block(story: Story) -> None:
    roster = {entry.host: entry.sender_id for entry in story.group.roster.values()}
    block = story.group.blocks.of(str(story.two.b.world.authorizer.id))
    assert block is not None
    for host in ("beta", "gamma"):
        name = str(story.two.b.world.host(host).id)
        assert block.has(roster[name])
        assert story.two.b.msm[host].core.memberships[story.group_id].sender_id == roster[name]
    assert not story.two.b.authorizer.core.groups  # nothing of it is B's to keep


def test_who_is_not_on_a_s_list_is_refused_by_a_s_rule() -> None:
    story = Story()
    assert not story.join("b", "gamma", "bela")
    assert "users-of-peers-by-name-only" in story.join("b", "beta", "mallory")
    assert set(story.branch.locals) == {str(story.two.b.world.host("gamma").id)}
    bela = story.two.b.msm["gamma"].core.memberships[story.group_id]
    assert bela.state == "member" and bela.epoch == story.group.epoch  # mallory was never shown a key


def test_a_second_user_on_a_host_of_b_is_refused_with_the_way_out(story: Story) -> None:
    assert story.join("b", "beta", "bela") == "one-user-a-host"


def eject(story: Story, subject: str) -> None:
    world = story.two.a.world
    eviction = Eviction(conference_id=story.conference_id, subject=subject, time_ms=round(story.network.now * 1000))
    signed = world.user("alice").sign_statement(EVICTION_LABEL, eviction.SerializeToString())
    request = EvictMemberRequest(authorizer=str(world.authorizer.id), eviction=signed)
    node = AskingNode(world, story.two.a.switchboard, "alpha", 99)
    assert node.ask("evict-member", request).refused is None
    node.kill()
    story.network.run_for(2.0)


def test_who_is_thrown_out_at_a_is_out_in_b(story: Story) -> None:
    eject(story, BOB)
    assert story.two.b.msm["beta"].core.memberships[story.group_id].state == "ejected"
    story.say("a", "alpha", b"without bob")
    assert story.heard("b", "gamma", b"without bob") == 1
    assert story.heard("b", "beta", b"without bob") == 0
    story.say("b", "gamma", b"still here")
    assert story.heard("a", "amber", b"still here") == 1
    assert story.join("b", "beta", "bob") == "unacceptable-user"


def test_a_key_that_is_replaced_at_a_is_replaced_in_b(story: Story) -> None:
    before = story.group.epoch
    story.two.a.age_key(story.group_id)
    story.network.run_for(2.0)
    assert story.group.epoch > before and story.epochs() == {story.group.epoch}
    story.say("b", "beta", b"under the new key")
    assert story.heard("a", "alpha", b"under the new key") == 1


def test_a_leave_in_b_replaces_the_key_for_all(story: Story) -> None:
    before = story.group.key
    node = AskingNode(story.two.b.world, story.two.b.switchboard, "gamma", 98)
    assert node.ask("leave-group", LeaveGroupRequest(group_id=story.group_id, user=BELA)).refused is None
    story.network.run_for(2.0)
    assert story.group.key != before
    gamma = str(story.two.b.world.host("gamma").id)
    assert gamma not in story.branch.locals and gamma not in story.group.members
    story.say("a", "alpha", b"hello")
    assert story.heard("b", "beta", b"hello") == 1


def test_a_host_of_b_that_dies_is_gone_when_its_lease_ends(story: Story) -> None:
    story.two.b.msm["gamma"].kill()
    story.network.run_for(100.0)
    gamma, beta = (str(story.two.b.world.host(host).id) for host in ("gamma", "beta"))
    assert gamma not in story.group.members and beta in story.group.members
    story.say("b", "beta", b"still here")
    assert story.heard("a", "alpha", b"still here") == 1


def test_with_b_s_authorizer_dead_its_hosts_end_with_its_lease(story: Story) -> None:
    story.two.b.authorizer.kill()
    story.network.run_for(150.0)
    hosts = {member.host for member in story.group.members}
    assert not [host for host in hosts if host.startswith("spiffe://b.example/")]


def test_b_s_authorizer_restarts_and_its_hosts_come_back_under_other_sender_ids() -> None:
    story = Story()
    bob = story.two.b.application("beta", "bob")
    bob.join(story.conference_id)
    assert story.network.run_until(lambda: bool(bob.state.state), 20.0)
    story.network.run_for(5.0)
    before = story.two.b.msm["beta"].core.memberships[story.group_id].sender_id
    story.two.b.restart_authorizer()
    story.network.run_for(60.0)
    membership = story.two.b.msm["beta"].core.memberships[story.group_id]
    assert membership.state == "member" and membership.epoch == story.group.epoch
    assert membership.sender_id != before
    story.say("b", "beta", b"back")
    assert story.heard("a", "alpha", b"back") == 1


def test_a_s_authorizer_restarts_and_b_follows(story: Story) -> None:
    story.two.a.restart_authorizer()
    story.network.run_for(10.0)
    assert story.epochs() == {story.group.epoch}
    story.say("b", "beta", b"after a restart")
    assert story.heard("a", "alpha", b"after a restart") == 1


def test_other_protocols_are_not_for_two_domains() -> None:
    story = Story(policy=GroupPolicy(gkm="lkh"))
    assert story.join("b", "beta", "bob") == "group-policy.gkm"


def test_an_authorizer_that_is_no_subordinate_is_refused() -> None:
    story = Story()
    story.two.a.authorizer.core._settings = type(story.two.a.authorizer.core._settings)()
    assert story.join("b", "beta", "bob") == "subordinates-only"


def test_b_s_authorizer_speaks_for_no_host_of_a(story: Story) -> None:
    home = str(story.two.a.world.authorizer.id)
    amber = str(story.two.a.world.host("amber").id)
    node = story.two.b.authorizer.homes[home]
    leave = Request("authorizer", "leave", LeaveRequest(group_id=story.group_id, host=amber), home, None)
    node.perform(node.endpoint.carry_out([leave], story.network.now))
    story.network.run_for(1.0)
    assert story.two.a.authorizer.endpoint.counters["refused.not-allowed"] == 1
    assert amber in story.group.members


def test_a_conference_of_two_domains_agrees_on_a_key_and_talks() -> None:
    two = TwoDomains(hosts_b=("beta", "gamma"), subordinate=True)
    alice, bob, bela = two.a.application("alpha", "alice"), two.b.application("beta", "bob"), None
    conference_id = alice.convene((BOB, BELA), policy=GroupPolicy(gkm="kd"))
    bela = two.b.application("gamma", "bela")
    bob.join(conference_id)
    bela.join(conference_id)
    everybody = (alice, bob, bela)
    assert two.network.run_until(lambda: all(each.state.state == "active" for each in everybody), 60.0)
    assert len({each.state.key_fingerprint for each in everybody}) == 1
    bob.say(b"from the other domain")
    two.network.run_for(2.0)
    assert (BOB, b"from the other domain") in alice.heard or ("bob", b"from the other domain") in alice.heard
    alice.eject(BELA)
    assert two.network.run_until(lambda: bela.state.state == "failed", 20.0)
    two.network.run_for(5.0)
    assert alice.state.state == bob.state.state == "active"
    assert alice.state.key_fingerprint == bob.state.key_fingerprint


# ---- a second domain's Authorizer that does what it shouldn't


def ask_a(story: Story, verb: str, message: Message) -> str:
    """What A's Authorizer refuses B's with; empty where it answers."""
    home = str(story.two.a.world.authorizer.id)
    node, refused = story.two.b.authorizer.homes[home], dict(story.two.a.authorizer.endpoint.counters)
    asked = Request("authorizer", verb, message, home, None)
    node.perform(node.endpoint.carry_out([asked], story.network.now))
    story.network.run_for(1.0)
    counters = story.two.a.authorizer.endpoint.counters
    grown = [name for name in counters if name.startswith("refused.") and counters[name] > refused.get(name, 0)]
    return grown[0].removeprefix("refused.") if grown else ""


def report(story: Story, host: Credentials, user: Credentials, **changes: Any) -> AdoptRequest:
    """As if this host had asked B's Authorizer to be let in for this user."""
    key, b = SealingKey.generate("x25519"), str(story.two.b.world.authorizer.id)
    statement = UserStatement(
        host=str(host.id),
        hpke_public_key=key.public,
        group_id=story.group_id,
        authorizer=str(story.two.a.world.authorizer.id),
        nonce=bytes(16),
        expires_ms=round((story.network.now + 30) * 1000),
    )
    request = RegisterRequest(
        group_id=story.group_id,
        hpke_public_key=key.public,
        hpke_suite="x25519",
        user_statement=sign_user_statement(user, statement.SerializeToString()),
        sender=True,
        address="203.0.113.77",
        gkm_contribution=scheme_named("kd").begin(seeded(next(SEEDS))).contribution,
        asked_ms=round(story.network.now * 1000),
    )
    raw = sign_envelope(host, request, changes.pop("recipient", b), bytes(16), story.network.now + 30).raw
    free = story.branch.right.first_sender_id + 40
    return AdoptRequest(
        group_id=story.group_id, request=raw, sender_id=changes.pop("sender_id", free), epoch=story.group.epoch
    )


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        ("a host of A", "envelope"),
        ("a request to another", "envelope"),
        ("a user that isn't on the list", "not-allowed"),
        ("a sender ID that isn't its own", "sender-id"),
        ("", ""),
    ],
)
def test_what_b_reports_is_held_against_a_s_rules_and_the_hosts_own_word(story: Story, lie: str, code: str) -> None:
    a, b = story.two.a.world, story.two.b.world
    zoe, bob = b.credentials("host", "zoe"), b.user("bob")
    told = {
        "": lambda: report(story, zoe, bob),
        "a host of A": lambda: report(story, a.host("amber"), bob),
        "a request to another": lambda: report(story, zoe, bob, recipient=str(a.authorizer.id)),
        "a user that isn't on the list": lambda: report(story, zoe, b.user("mallory")),
        "a sender ID that isn't its own": lambda: report(story, zoe, bob, sender_id=3),
    }[lie]()
    before = story.group.key
    assert ask_a(story, "adopt", told) == code
    assert (str(zoe.id) in story.group.members) == (not lie)
    assert (story.group.key != before) == bool(lie)  # the newcomer may have been shown the key already


def test_b_s_authorizer_creates_nothing_and_evicts_nobody_at_a(story: Story) -> None:
    assert ask_a(story, "create", CreateRequest()) == "not-allowed"
    eviction = Eviction(
        conference_id=story.conference_id, subject=BOB, time_ms=round(story.network.now * 1000)
    ).SerializeToString()
    signed = story.two.b.world.user("bela").sign_statement(EVICTION_LABEL, eviction)
    assert ask_a(story, "evict", EvictRequest(eviction=signed)) == "not-allowed"


def test_a_hostile_bus_of_a_changes_nothing_in_b(story: Story) -> None:
    """B believes A's signature, and nothing else that comes from A's broker."""
    node = story.two.b.authorizer
    before = story.branch.number, story.epochs()
    home, elsewhere = str(story.two.a.world.authorizer.id), str(story.two.b.world.authorizer.id)
    genuine = [frame.raw for frame in story.network.frames if frame.destination.startswith("mcsa.v1.group.")]
    for raw in (b"", b"garbage", *(raw[:-1] + bytes([raw[-1] ^ 1]) for raw in genuine[-4:]), *genuine):
        node.event(HomeTold(home, story.group_id, raw))
        node.event(HomeTold(elsewhere, story.group_id, raw))
    story.network.run_for(1.0)
    assert (story.branch.number, story.epochs()) == before
    assert sum(n for name, n in node.endpoint.counters.items() if name.startswith("rejected.home")) >= 3


def test_a_block_that_is_used_up_is_followed_by_another(story: Story) -> None:
    first = story.branch.right.first_sender_id
    story.branch._used = story.branch.right.sender_ids
    story.two.b.authorizer.perform([])
    story.network.run_for(3.0)
    assert story.branch.right.first_sender_id > first
    story.two.b.restart_msm("gamma")
    assert not story.join("b", "gamma", "bela")
    assert story.branch.right.first_sender_id <= story.branch.locals[str(story.two.b.world.host("gamma").id)].sender_id
