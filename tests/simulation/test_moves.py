"""A conference moves to other addresses after a clash: by itself before anybody came, later as its Coordinator says."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.errors import Refused
from mcsa.sap.announcement import parse_announcement
from mcsa.statements import RELOCATION_LABEL
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1 import msm_pb2
from mcsa.v1.authorizer_pb2 import Relocation
from mcsa.v1.types_pb2 import GroupPolicy, SessionAnnouncement
from services.csm.asking import ask_msm
from services.csm.moving import AGAIN_AFTER, MOVES
from services.msm.announcing import ASKED_AGAIN_EACH
from services.msm.gpad import Accepted, Gpad
from tests.sap.parts import foreign
from tests.simulation.conference import Application, ConferenceDomain
from tests.simulation.network import Weather
from tests.simulation.test_conferences import convened, run_until_keyed
from tests.simulation.test_send_only_conferences import Scene


def directory_of(domain: ConferenceDomain) -> Any:
    return domain.directory.core


def announced(domain: ConferenceDomain) -> list[msm_pb2.Session]:
    return [parse_announcement(sdp) for sdp in directory_of(domain).announced.values()]


def addresses(application: Application) -> list[str]:
    return [group.address for group in application.participant.terms.groups]


def clash_with(domain: ConferenceDomain, address: str, seconds_before: float) -> None:
    """Another session that the directory heard so long before ours was announced."""
    sdp = foreign("a film").replace(b"239.255.7.9", address.encode())
    first = round((domain.network.now - seconds_before) * 1000)
    directory_of(domain).announced_ms = round(domain.network.now * 1000)
    directory_of(domain).clashes = [SessionAnnouncement(sdp=sdp, source="192.0.2.9", first_heard_ms=first)]


def move(alice: Application) -> wire.ConferenceServiceMoveResponse:
    response = alice.ask("move", wire.ConferenceServiceMoveRequest(conference_id=alice.conference_id))
    assert isinstance(response, wire.ConferenceServiceMoveResponse)
    return response


def refusal_of_msm(domain: ConferenceDomain, host: str, message: msm_pb2.MoveSessionRequest) -> Refused:
    """What a CSM is told that asks for more than it may."""
    node, refusals = domain.csms[host], list[Refused]()

    def refused(refusal: Refused, _now: float) -> list[Any]:
        refusals.append(refusal)
        return []

    asked = ask_msm(node.core.setting.host, "move-session", message, lambda _message, _now: [], refused)
    node.perform(node.endpoint.carry_out([asked], domain.network.now))
    domain.network.run_for(5.0)
    (refusal,) = refusals
    return refusal


@pytest.fixture
def domain() -> ConferenceDomain:
    return ConferenceDomain(hosts=("alpha", "beta", "gamma"))


def test_an_announced_conference_that_nobody_joined_yet_moves_by_itself(domain: ConferenceDomain) -> None:
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob",), wait=300.0)
    before = addresses(alice)
    clash_with(domain, before[0], seconds_before=100.0)
    domain.network.run_for(ASKED_AGAIN_EACH + 1)
    directory_of(domain).clashes = []
    domain.network.run_for(5.0)
    after = addresses(alice)
    assert not set(before) & set(after)
    (session,) = announced(domain)  # the earlier description is withdrawn
    assert [group.address for group in session.groups] == after and session.conference_id == conference_id
    bob = domain.application("beta", "bob")
    bob.join(conference_id)
    alice.ask("call", wire.ConferenceServiceCallRequest(conference_id=conference_id))
    run_until_keyed(domain, [alice, bob])
    assert addresses(bob) == after


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_running_conference_moves_at_its_coordinators_word_and_all_follow(seed: int) -> None:
    domain = ConferenceDomain(seed, Weather(loss=0.1, jitter=0.02), hosts=("alpha", "beta", "gamma"))
    applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications, 60.0)
    before = addresses(applications[0])
    groups = move(applications[0]).groups
    assert not {group.address for group in groups} & set(before)
    assert domain.network.run_until(
        lambda: all(addresses(each) == [group.address for group in groups] for each in applications), 30.0
    )
    run_until_keyed(domain, applications, 60.0)
    control = groups[0].group_id
    for host in ("alpha", "beta", "gamma"):
        assert domain.msm[host].paths[control].group.address == groups[0].address
    applications[1].say(b"here we are")
    domain.network.run_for(5.0)
    assert ("bob", b"here we are") in applications[0].heard and ("bob", b"here we are") in applications[2].heard
    for old in before:
        assert not domain.network._members.get(old)


def test_a_running_conference_does_not_move_by_itself(domain: ConferenceDomain) -> None:
    """Who is in it would be interrupted by whoever announces something at its address."""
    alice, bob = convened(domain, "bob")
    run_until_keyed(domain, [alice, bob])
    before = addresses(alice)
    clash_with(domain, before[0], seconds_before=100.0)
    domain.network.run_for(3 * ASKED_AGAIN_EACH)
    assert addresses(alice) == before
    assert not domain.csms["alpha"].endpoint.counters["moves.done"]
    assert alice.state.clash == f"{before[0]} is also used by 'a film' from 192.0.2.9"
    directory_of(domain).clashes = []
    domain.network.run_for(ASKED_AGAIN_EACH + 1)
    assert alice.state.clash == ""


def test_what_is_announced_at_our_address_later_moves_nobody(domain: ConferenceDomain) -> None:
    alice = domain.application("alpha", "alice")
    alice.convene(("bob",), wait=300.0)
    before = addresses(alice)
    clash_with(domain, before[0], seconds_before=-60.0)
    domain.network.run_for(3 * ASKED_AGAIN_EACH)
    assert addresses(alice) == before and alice.state.clash


def test_who_forges_clashes_can_not_keep_a_conference_moving(domain: ConferenceDomain) -> None:
    alice = domain.application("alpha", "alice")
    alice.convene(("bob",), wait=3_000.0)
    for _ in range(40):
        clash_with(domain, addresses(alice)[0], seconds_before=100.0)
        domain.network.run_for(AGAIN_AFTER / 3)
    counters = domain.csms["alpha"].endpoint.counters
    assert counters["moves.done"] == MOVES and counters["moves.too-many"] > 0


def test_only_the_coordinator_moves_it(domain: ConferenceDomain) -> None:
    alice, bob = convened(domain, "bob")
    run_until_keyed(domain, [alice, bob])
    asked = wire.ConferenceServiceMoveRequest(conference_id=bob.conference_id)
    assert bob.refusal_of("move", asked).rule == "coordinator-only-move"
    terms = bob.participant.terms
    for signer, addresses_left, age, rule in (
        ("bob", addresses(alice), 0.0, "coordinator-moves"),
        ("alice", addresses(alice), 9_999.0, "time"),
    ):
        relocation = Relocation(
            conference_id=bob.conference_id,
            addresses=addresses_left,
            time_ms=round((domain.network.now - age) * 1000),
        )
        statement = domain.world.user(signer).sign_statement(RELOCATION_LABEL, relocation.SerializeToString())
        asked_msm = msm_pb2.MoveSessionRequest(relocation=statement, description=terms.statement)
        refused = refusal_of_msm(domain, "beta", asked_msm)
        assert refused.rule == rule or (refused.code, rule) == ("not-allowed", "coordinator-moves")
    assert addresses(alice) == addresses(bob)


def test_a_move_that_was_done_is_not_done_again(domain: ConferenceDomain) -> None:
    """A relocation names the addresses that are to be left: repeated, it changes nothing."""
    alice = domain.application("alpha", "alice")
    alice.convene(("bob",), wait=300.0)
    stale = addresses(alice)
    first = [group.address for group in move(alice).groups]
    for group, address in zip(alice.participant.terms.groups, stale, strict=True):
        group.address = address  # as a CSM that missed the answer
    assert [group.address for group in move(alice).groups] == first


def test_an_authorizer_that_restarts_knows_where_its_groups_are(domain: ConferenceDomain) -> None:
    alice, bob = convened(domain, "bob")
    run_until_keyed(domain, [alice, bob])
    after = [group.address for group in move(alice).groups]
    domain.network.run_until(lambda: addresses(bob) == after, 30.0)
    domain.restart_authorizer()
    domain.network.run_for(5.0)
    kept = domain.authorizer.core.conferences[alice.conference_id]
    assert [group.address for group in kept.groups] == after
    run_until_keyed(domain, [alice, bob], 60.0)


def test_groups_that_could_not_follow_are_not_moved(domain: ConferenceDomain) -> None:
    alice = domain.application("alpha", "alice")
    alice.convene(("bob", "carol"), policy=GroupPolicy(gkm="iolus", subgroup_size=2), wait=300.0)
    for host, user in (("beta", "bob"), ("gamma", "carol")):
        domain.application(host, user).join(alice.conference_id)
    domain.network.run_for(3.0)
    assert domain.authorizer.core.conferences[alice.conference_id].subgroups
    with pytest.raises(Refused) as caught:
        move(alice)
    assert caught.value.rule == "one-domain-one-group"


def test_who_only_sends_follows_too() -> None:
    scene = Scene()
    scene.begin()
    assert scene.say(b"before")
    moved = {group.group_id: group.address for group in move(scene.alice).groups}
    msm = scene.domain.msm["echo"]
    assert scene.domain.network.run_until(
        lambda: scene.audio in msm.paths and msm.paths[scene.audio].group.address == moved[scene.audio], 30.0
    )
    assert scene.domain.network.run_until(lambda: addresses(scene.bob) == list(moved.values()), 30.0)
    scene.domain.network.run_for(3.0)
    assert scene.say(b"after")
    assert b"after" in scene.heard_by("alpha") and b"after" in scene.heard_by("beta")
    assert msm.core.memberships == {}


def test_who_has_heard_the_old_announcement_only_is_taken_along(domain: ConferenceDomain) -> None:
    """Its host verifies that one, and the Authorizer's association is for the new addresses."""
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene(("bob",), wait=300.0)
    (old,) = directory_of(domain).announced.values()
    after = [group.address for group in move(alice).groups]
    directory_of(domain).announced = {b"old": old}
    bob = domain.application("beta", "bob")
    bob.join(conference_id)
    domain.network.run_for(3.0)
    assert domain.msm["beta"].paths[alice.participant.terms.control.group_id].group.address == after[0]
    alice.ask("call", wire.ConferenceServiceCallRequest(conference_id=conference_id))
    run_until_keyed(domain, [alice, bob])


def test_nobody_is_taken_to_addresses_that_its_host_does_not_accept(domain: ConferenceDomain) -> None:
    """RFC 5374's GPAD: which addresses an Authorizer may key, the host's operator says."""
    alice, bob = convened(domain, "bob")
    run_until_keyed(domain, [alice, bob])
    authorizer = bob.participant.terms.description.authorizer
    narrow = Gpad([Accepted(authorizer, f"{address}/32") for address in addresses(bob)])
    domain.msm["beta"].core._gpad = narrow
    move(alice)
    assert domain.network.run_until(lambda: bob.state.state == "failed", 120.0)
    assert "accepts no keys" in bob.state.reason
    domain.network.run_for(15.0)  # it leaves what it was in
    assert not domain.msm["beta"].paths
