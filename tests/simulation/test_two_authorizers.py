"""Two processes of one Authorizer on one store: the store's condition is a fence between them. Snapshots and the
ratcheted storage key among them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mcsa.shell.storage_key import StorageKeyAtRest
from mcsa.v1.msm_pb2 import CreateSessionRequest
from mcsa.v1.types_pb2 import AccessControl
from services.authorizer.conference import conference_log, group_log
from services.authorizer.events import TakeSnapshot
from services.authorizer.given_up import STAND_BY
from services.authorizer.logs import Logs
from tests.simulation.network import START
from tests.simulation.nodes import pause
from tests.simulation.stream import WaitingStream
from tests.simulation.survival import HOSTS, USERS, SurvivalDomain
from tests.simulation.test_survival import walk
from tests.world import World, seeded

WORLD = World(now=START)


@pytest.fixture
def domain() -> Iterator[SurvivalDomain]:
    domain = SurvivalDomain(hosts=HOSTS, world=WORLD)
    with domain.history.reading():
        domain.begin_conference()
        for host in ("alpha", "beta", "gamma"):
            domain.join(host, USERS[host])
        yield domain


# ---- fencing


@pytest.mark.parametrize("hung_for", [0.5, 3.0, 30.0])
def test_who_hung_while_another_took_over_does_no_harm_when_it_wakes_up(domain: SurvivalDomain, hung_for: float):
    old = domain.authorizer
    old.hang()
    domain.start_authorizer(domain.first_state)
    domain.evict("dave")
    domain.network.run_for(hung_for)
    old.wake()
    domain.run_as_csms_do(25)
    alarms = [alarm.what for node in (old, domain.authorizer) for alarm in node.alarms]
    assert len(alarms) <= 2  # it noticed, and stood by
    domain.talk("alpha", "beta")
    old.kill()
    domain.join("delta", "erin")
    domain.network.run_for(1.0)
    domain.talk("alpha", "beta", "delta")
    assert domain.csm["gamma"].join(domain.group, domain.conference_id, "dave").refused is not None


def test_who_was_thrown_out_by_another_process_is_not_let_in_by_one_that_wakes_up_and_takes_over(
    domain: SurvivalDomain,
):
    old = domain.authorizer
    old.hang()
    domain.start_authorizer(domain.first_state)
    domain.network.run_for(3.0)
    domain.evict("dave")
    domain.authorizer.kill()
    old.wake()
    domain.run_as_csms_do(60)
    refused = domain.csm["gamma"].join(domain.group, domain.conference_id, "dave").refused
    assert refused is not None and refused.rule == "unacceptable-user"


def test_two_that_both_run_give_nothing_twice(domain: SurvivalDomain):
    first = domain.authorizer
    domain.start_authorizer(domain.first_state)
    for _ in range(3):
        domain.csm["delta"].join(domain.group, domain.conference_id, "erin")
        domain.run_as_csms_do(2)
        domain.csm["beta"].join(domain.group, domain.conference_id, "carol")
        domain.run_as_csms_do(2)
    first.kill()
    domain.run_as_csms_do(40)  # the other one has stood by long enough
    domain.talk("alpha", "beta")


def test_who_finds_a_conference_begun_by_another_gives_its_own_up():
    domain = SurvivalDomain(hosts=HOSTS, world=WORLD)
    late = domain.authorizer
    late.hang()
    domain.start_authorizer(domain.first_state)
    with domain.history.reading():
        domain.begin_conference()
        domain.authorizer.kill()
        late.wake()  # it has read the logs before there were any
        domain.network.run_for(0.1)
        asked = CreateSessionRequest(description=domain.describe(), access=AccessControl())
        assert domain.csm["alpha"].ask("create-session", asked).refused is not None
        assert [alarm.what for alarm in late.alarms] == ["fenced"]
        assert late.core.conferences == {} and not late.core._kept._creating
        domain.network.run_for(STAND_BY)
        for _ in range(3):  # the first one makes it read the conference's log, and that the group's
            domain.csm["alpha"].join(domain.group, domain.conference_id, "alice")
            domain.network.run_for(1.0)
        domain.authorizer = late
        domain.join("beta", "bob")
        domain.network.run_for(1.0)
        domain.talk("alpha", "beta")


# ---- snapshots


def take_snapshots(domain: SurvivalDomain, *logs: str) -> None:
    """Of these now, as if they were due."""
    kept = domain.authorizer.core._kept
    for log in logs:
        record = kept._record_of(log)
        assert record is not None
        domain.authorizer.carry_out(TakeSnapshot(log, record.SerializeToString()))
    domain.network.run_for(0.5)


def generation(state: Path) -> int:
    return StorageKeyAtRest(state / "storage.key").load_or_draw()[0].generation


def test_killed_at_any_step_of_snapshots_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("services.authorizer.snapshots.ENTRIES", 2)
    monkeypatch.setattr("mcsa.durable_log.snapshot.PART_SIZE", 256)
    walk(first=1, each=5, snapshots=True)


def test_when_all_logs_have_snapshots_the_key_moves_on_and_the_disks_of_today_open_nothing_of_before(
    domain: SurvivalDomain,
):
    both = conference_log(domain.conference_id), group_log(domain.group.group_id)
    before = domain.stream.copy()
    take_snapshots(domain, both[0])
    assert generation(domain.state) == 1  # which is the first that logs have
    take_snapshots(domain, both[1])
    assert generation(domain.state) == 2
    today = domain.copy_state(domain.state / "today")
    domain.authorizer.kill()
    domain.stream.restore(before)  # what a broker's backups may still have
    logs = Logs(WaitingStream(domain.stream), StorageKeyAtRest(today / "storage.key"), seeded(5), pause)

    async def read() -> None:
        for log in both:
            loaded = await logs.read(log)
            assert (loaded.snapshot, loaded.entries, loaded.whole) == (None, (), False)

    domain.authorizer.alive = True
    domain.authorizer.run(read())


def test_another_one_without_marks_reads_logs_whose_snapshots_are_of_different_times(domain: SurvivalDomain):
    take_snapshots(domain, conference_log(domain.conference_id), group_log(domain.group.group_id))
    take_snapshots(domain, conference_log(domain.conference_id))
    domain.authorizer.kill()
    domain.start_authorizer(domain.first_state)
    domain.network.run_for(3.0)
    assert domain.alarms == set()
    assert generation(domain.first_state) == generation(domain.state)
    domain.talk("alpha", "beta")
