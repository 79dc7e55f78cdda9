"""A store that lost, changed or mixed up what it had acknowledged: it is noticed, members register again by themselves,
no sender ID and no epoch comes twice (design, section 6, "State and replicas")."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mcsa.errors import Refused
from services.authorizer.conference import conference_log, group_log
from services.authorizer.group import Group
from tests.simulation.history import Broken
from tests.simulation.network import START
from tests.simulation.survival import HOSTS, USERS, ConferenceSurvivalDomain, SurvivalDomain
from tests.simulation.test_conferences import all_hold_one_key, convened, run_until_keyed
from tests.world import World

WORLD = World(now=START)
STATES = ["the same", "as it was at the start"]


@pytest.fixture
def domain() -> Iterator[SurvivalDomain]:
    """Alice, bob and dave are in; dave was thrown out; beacons were heard. The conference's log has 2 records, the
    group's 5."""
    domain = SurvivalDomain(hosts=HOSTS, world=WORLD)
    with domain.history.reading():
        domain.begin_conference()
        for host in ("alpha", "beta", "gamma"):
            domain.join(host, USERS[host])
        domain.evict("dave")
        domain.network.run_for(1.5)
        yield domain


def start_anew(domain: SurvivalDomain, state: str) -> None:
    if domain.authorizer.alive:
        domain.authorizer.kill()
    domain.start_authorizer(domain.state if state == "the same" else domain.first_state)


def check_all_is_well(domain: SurvivalDomain) -> None:
    domain.run_as_csms_do(6)
    domain.talk("alpha", "beta")
    domain.join("delta", "erin")
    domain.run_as_csms_do(6)
    domain.talk("alpha", "beta", "delta")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("records", range(1, 6))
def test_a_groups_log_that_lost_its_end_is_noticed_and_members_register_again(
    domain: SurvivalDomain, records: int, state: str
):
    domain.authorizer.kill()
    domain.stream.cut(group_log(domain.group.group_id), records)
    start_anew(domain, state)
    check_all_is_well(domain)
    assert domain.alarms & {"group-log", "rolled-back"}
    assert domain.csm["gamma"].join(domain.group, domain.conference_id, "dave").refused is not None


def test_members_that_heard_no_beacon_of_the_lost_epoch_still_register_again(domain: SurvivalDomain):
    domain.evict("erin")  # in no group: the conference alone knows; then a rekey whose beacon nobody hears
    domain.age_key(domain.group.group_id)
    told = len(domain.network.frames)
    domain.network.run_until(lambda: len(domain.network.frames) > told + 2, 1.0)
    domain.authorizer.kill()
    domain.network.run_for(0.01)
    domain.stream.cut(group_log(domain.group.group_id), 1)
    start_anew(domain, "as it was at the start")
    domain.run_as_csms_do(6)
    domain.talk("alpha", "beta")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("records", [1, 2])
def test_a_conferences_log_that_lost_its_end_is_noticed_as_far_as_anybody_remembers(
    domain: SurvivalDomain, records: int, both: bool, state: str
):
    domain.authorizer.kill()
    domain.stream.cut(conference_log(domain.conference_id), records)
    if both:
        domain.stream.cut(group_log(domain.group.group_id), records)
    start_anew(domain, state)
    if records == 1:
        check_all_is_well(domain)
        expected = {"conference-log"} if state == "the same" else {"rolled-back"} if both else set()
    else:
        domain.run_as_csms_do(3)
        refused = domain.csm["delta"].join(domain.group, domain.conference_id, "erin").refused
        assert refused is not None and refused.code == "unknown-group"
        assert domain.stream.logs() == []
        expected = {"conference-log"}
    assert domain.alarms >= expected


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_an_older_copy_of_the_store_is_noticed_and_members_register_again(state: str, running: bool):
    domain = SurvivalDomain(hosts=HOSTS, world=WORLD)
    with domain.history.reading():
        domain.begin_conference()
        domain.join("alpha", "alice")
        copy = domain.stream.copy()
        domain.join("beta", "bob")
        domain.join("delta", "erin")
        domain.network.run_for(1.5)
        domain.stream.restore(copy)
        if not running:
            start_anew(domain, state)
        domain.leave("delta", "erin")
        domain.run_as_csms_do(70)  # members renew their leases; where nothing else happened, that is when it shows
        domain.talk("alpha", "beta")
        assert domain.alarms


def test_conferences_go_on_by_themselves_over_an_older_copy_of_the_store():
    domain = ConferenceSurvivalDomain(hosts=("alpha", "beta", "gamma"), world=WORLD)
    with domain.history.reading():
        copies = [domain.stream.copy()]
        applications = convened(domain, "bob", "carol")
        copies.append(domain.stream.copy())
        run_until_keyed(domain, applications)
        domain.network.run_for(2.0)
        domain.authorizer.kill()
        for log in domain.stream.logs():
            if log.startswith("group-"):
                domain.stream.cut(log, 2)
        domain.start_authorizer(domain.first_state)
        domain.network.run_for(30.0)
        assert domain.alarms == {"rolled-back"}
        applications[0].say(b"here we are")
        domain.network.run_for(2.0)
        assert all_hold_one_key(applications)
        for application in applications[1:]:
            assert ("alice", b"here we are") in application.heard


# ---- records that aren't what they were


@pytest.mark.parametrize("record", range(5))
def test_a_record_of_a_group_that_was_changed_is_noticed(domain: SurvivalDomain, record: int):
    domain.authorizer.kill()
    domain.stream.change(group_log(domain.group.group_id), record)
    start_anew(domain, "the same")
    assert domain.alarms == {"group-log"}
    check_all_is_well(domain)
    start_anew(domain, "the same")  # what took the place of the damaged log is whole
    assert domain.alarms == set()
    check_all_is_well(domain)


def test_logs_that_were_swapped_are_noticed():
    domain = SurvivalDomain(hosts=HOSTS, world=WORLD)
    created = domain.create(acceptable=tuple(USERS.values()), groups=2)
    domain.conference_id = created.conference_id
    for domain.group in created.groups:
        for host in ("alpha", "beta"):
            domain.join(host, USERS[host])
    domain.authorizer.kill()
    domain.stream.swap(*(group_log(group.group_id) for group in created.groups))
    start_anew(domain, "the same")
    assert [alarm.what for alarm in domain.authorizer.alarms] == ["group-log", "group-log"]
    for domain.group in created.groups:
        domain.run_as_csms_do(6)
        domain.talk("alpha", "beta")


def test_a_record_of_another_authorizer_is_noticed(domain: SurvivalDomain):
    other = SurvivalDomain(2, hosts=("alpha",), world=WORLD)
    other.begin_conference()
    domain.authorizer.kill()
    domain.stream.graft(group_log(domain.group.group_id), other.stream, group_log(other.group.group_id))
    start_anew(domain, "the same")
    assert domain.alarms == {"group-log"}
    check_all_is_well(domain)


def test_with_a_storage_key_that_is_not_theirs_the_logs_are_left_alone(domain: SurvivalDomain):
    domain.authorizer.kill()
    before = domain.stream.copy()
    empty = domain.state / "empty"
    empty.mkdir()
    with pytest.raises(Refused) as refused:
        domain.start_authorizer(empty)
    assert refused.value.code == "storage-key"
    assert domain.stream.copy() == before


# ---- the alarms ring


def roll_back_and_go_on(world: World = WORLD) -> None:
    domain = SurvivalDomain(hosts=HOSTS, world=world)
    with domain.history.reading():
        domain.begin_conference()
        domain.join("alpha", "alice")
        copy = domain.stream.copy()
        domain.join("beta", "bob")
        domain.authorizer.kill()
        domain.stream.restore(copy)
        domain.start_authorizer(domain.first_state)
        domain.join("gamma", "dave")
        domain.run_as_csms_do(6)


def test_the_history_notices_sender_ids_that_are_not_skipped(monkeypatch: pytest.MonkeyPatch):
    roll_back_and_go_on()
    monkeypatch.setattr("services.authorizer.sender_ids.SKIPPED", 0)
    with pytest.raises(Broken, match="sender ID 3 was given to registration"):
        roll_back_and_go_on()


def test_the_history_notices_epochs_that_only_count(monkeypatch: pytest.MonkeyPatch):
    def count(self: Group, now: float, old: int) -> int:
        return self.epoch + 1

    monkeypatch.setattr(Group, "_next_epoch", count)
    with pytest.raises(Broken, match="came twice"):
        roll_back_and_go_on()
