"""What a member must not get away with at an Authorizer that survives; and disks that are full."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mcsa.endpoint import Requested
from mcsa.envelope import sign_envelope
from mcsa.errors import Rejected
from mcsa.subjects import group_subject
from mcsa.updates import group_recipient, open_old_beacon, parse_message
from mcsa.v1.authorizer_pb2 import Beacon, RenewRequest
from tests.simulation.network import START
from tests.simulation.survival import HOSTS, USERS, SurvivalDomain
from tests.world import World

WORLD = World(now=START)


@pytest.fixture
def domain() -> Iterator[SurvivalDomain]:
    domain = SurvivalDomain(hosts=HOSTS, world=WORLD)
    with domain.history.reading():
        domain.begin_conference()
        for host in ("alpha", "beta"):
            domain.join(host, USERS[host])
        domain.network.run_for(1.5)
        yield domain


def beacons(domain: SurvivalDomain) -> list[bytes]:
    """All that were ever told to the group, oldest first."""
    subject = group_subject(domain.authorizer.endpoint.caller, domain.group.group_id)
    told = (parse_message(frame.raw) for frame in domain.network.frames if frame.destination == subject)
    heard = dict.fromkeys(message.beacon for message in told if message.HasField("beacon"))
    return [raw for raw in heard if opened(domain, raw) is not None]


def opened(domain: SurvivalDomain, raw: bytes) -> Beacon | None:
    authorizer = str(domain.world.authorizer.id)
    try:
        return open_old_beacon(raw, domain.group.group_id, domain.world.trust(), authorizer, domain.network.now)
    except Rejected:
        return None


def show(domain: SurvivalDomain, evidence: bytes) -> int:
    """Beta registers anew, and shows this; how many alarms there are then."""
    domain.msm["beta"].core.memberships[domain.group.group_id].last_beacon = evidence
    domain.csm["beta"].join(domain.group, domain.conference_id, "bob")
    domain.run_as_csms_do(1)
    return len([alarm for alarm in domain.authorizer.alarms if alarm.what == "rolled-back"])


def test_genuine_beacons_of_a_past_that_is_known_begin_nothing_anew(
    domain: SurvivalDomain, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "services.authorizer.kept_updates.UPDATES_KEPT", 3
    )  # what comes before is not looked up any more
    for number in range(6):
        domain.age_key(domain.group.group_id)
        domain.network.run_for(1.2)
        if number == 3:
            domain.restart_authorizer()
    genuine = beacons(domain)
    assert len({(beacon.epoch, beacon.update_number) for raw in genuine if (beacon := opened(domain, raw))}) > 6
    assert {show(domain, raw) for raw in genuine} == {0}
    domain.talk("alpha", "beta")


def test_beacons_of_a_past_that_was_lost_begin_anew_once_and_not_again(domain: SurvivalDomain):
    copy = domain.stream.copy()
    for _ in range(3):
        domain.age_key(domain.group.group_id)
        domain.network.run_for(1.2)
    domain.authorizer.kill()
    domain.stream.restore(copy)
    domain.start_authorizer(domain.first_state)
    domain.run_as_csms_do(5)
    assert domain.alarms == {"rolled-back"}
    genuine = beacons(domain)
    alarms = max(show(domain, raw) for raw in genuine)
    assert alarms <= 3  # no more than updates were lost
    assert {show(domain, raw) for raw in genuine} == {alarms}
    domain.restart_authorizer()
    assert {show(domain, raw) for raw in genuine} == {0}
    domain.run_as_csms_do(5)
    domain.talk("alpha", "beta")


def test_beacons_that_are_forged_of_another_group_or_no_beacons_are_counted_and_begin_nothing(domain: SurvivalDomain):
    group_id, now = domain.group.group_id, domain.network.now
    ahead = Beacon(group_id=group_id, epoch=2**62, update_number=1_000, time_ms=round(now * 1000), next_sender_id=999)
    forged = sign_envelope(domain.world.host("beta"), ahead, group_recipient(group_id), bytes(16), now + 60)[0]
    elsewhere = sign_envelope(domain.world.authorizer, ahead, group_recipient(bytes(16)), bytes(16), now + 60)[0]
    evidence = {"kind": forged, "recipient": elsewhere, "malformed": b"\xff" * 100}
    for raw in evidence.values():
        assert show(domain, raw) == 0
    counters = domain.authorizer.endpoint.counters
    assert sum(count for name, count in counters.items() if name.startswith("rejected.evidence.")) == len(evidence)
    domain.talk("alpha", "beta")


def test_a_flood_of_renewals_stores_nothing(domain: SurvivalDomain):
    before = domain.stream.copy()
    asked = RenewRequest(group_id=domain.group.group_id)
    caller = domain.world.host("beta").identity
    core = domain.authorizer.core
    for number in range(10_000):
        core.handle(Requested("renew", caller, asked, number, b""), domain.network.now)
    assert domain.stream.copy() == before
    domain.talk("alpha", "beta")


# ---- full disks


def test_what_a_full_store_refuses_is_decided_when_there_is_space_again(domain: SurvivalDomain):
    domain.stream.full = True
    refused = domain.csm["delta"].join(domain.group, domain.conference_id, "erin").refused
    assert refused is not None and refused.code == "no-answer"
    domain.network.run_for(20.0)
    told = {changed.change for host in ("alpha", "beta") for changed in domain.csm[host].core.told}
    assert not told & {"silenced", "statement-needed"}  # what was told goes on meanwhile
    domain.stream.full = False
    domain.network.run_for(3.0)
    domain.join("delta", "erin")
    domain.network.run_for(1.0)
    domain.talk("alpha", "beta", "delta")


def test_while_the_storage_keys_disk_is_full_nothing_is_answered_that_needs_it_and_all_is_when_it_isnt(
    domain: SurvivalDomain,
):
    away = domain.state.with_name(domain.state.name + "-away")
    domain.state.rename(away)  # nothing can be written there

    def back() -> None:
        away.rename(domain.state)

    domain.network.at(domain.network.now + 3.0, back)
    asked_at = domain.network.now
    domain.countersign(bytes(32))
    assert domain.network.now - asked_at > 3.0
    domain.restart_authorizer()
    domain.network.run_for(1.0)
    assert domain.alarms == set()
    domain.talk("alpha", "beta")
