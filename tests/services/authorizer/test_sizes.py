"""What is too large for one message of the broker (1 MiB) ends in no crash, and nobody who was to go stays."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.endpoint import Answer, Requested
from mcsa.errors import Refused
from mcsa.policy import DEFAULTS
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.authorizer_log_pb2 import ConferenceRecord
from mcsa.v1.types_pb2 import AccessControl
from services.authorizer.events import Alarm, Append, Appended
from services.authorizer.group import Group
from services.authorizer.journal import MAX_ENTRY, Journal
from tests.services.authorizer.parts import fill, host, setting
from tests.services.authorizer.test_core import Desk
from tests.world import NOW, World


@pytest.mark.parametrize("gkm", ["lkh", "gkmp"])
def test_two_thousand_that_leave_at_once_and_a_large_group_fit_into_one_record(world: World, gkm: str):
    made = setting(world, gkm)
    group = Group(made, made.gkm(), NOW)
    fill(group, 4_000)  # as many as gkmp takes
    for number in range(2_000):
        group.remove_host(host(number), NOW, eject=True)
    assert group.flush(NOW).record.ByteSize() <= MAX_ENTRY
    group.remove_host(host(2_000), NOW, eject=True)
    assert group.flush(NOW).record.ByteSize() <= MAX_ENTRY


def test_a_group_that_has_outgrown_its_protocol_begins_anew_and_who_left_is_out(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    desk = Desk(world)
    group_id = desk.create().groups[0].group_id
    desk.ask("register", desk.request(group_id), world.host("beta"))
    group = desk.core.groups[group_id]
    fill(group, 200)
    epoch = group.epoch
    monkeypatch.setattr("services.authorizer.groups_flushed.MAX_ENTRY", 500)
    monkeypatch.setattr("services.authorizer.groups.Groups._forget", lambda *_: [])
    later = NOW + DEFAULTS.batch_ms / 1000
    asked = Requested("leave", world.host("beta").identity, wire.LeaveRequest(group_id=group_id), "token", b"")
    effects: list[Any] = [*desk.core.handle(asked, NOW), *desk.core._kept.flush_if_due(group, later)]
    desk.stored(effects, later)
    assert [alarm.what for alarm in effects if isinstance(alarm, Alarm)] == ["outgrown"]
    assert any(isinstance(effect, Answer) and effect.token == "token" for effect in effects)
    assert [effect.whole for effect in effects if isinstance(effect, Append)] == [True]
    assert len(group.members) == 0 and group.told.epoch > epoch


def test_updates_that_are_too_long_for_one_answer_come_in_several(world: World, monkeypatch: pytest.MonkeyPatch):
    made = setting(world, "gkmp")
    group = Group(made, made.gkm(), NOW)
    fill(group, 50)
    for number in range(5):
        group.remove_host(host(number), NOW)
        group.flush(NOW)
    group.committed()
    whole = group.updates_since(1)
    assert whole is not None and len(whole) == 5
    monkeypatch.setattr("services.authorizer.kept_updates.REPAIR_SIZE", 2 * len(whole[0]))
    assert group.updates_since(1) == whole[:2]


def test_an_access_control_list_that_fits_into_no_record_is_refused(desk: Desk):
    names = [f"spiffe://example.org/user/{'long' * 30}-{number}" for number in range(8_000)]
    message = wire.CreateRequest(description=desk.signed(), access=AccessControl(acceptable_users=names))
    with pytest.raises(Refused) as refused:
        desk.ask("create", message)
    assert (refused.value.code, refused.value.rule) == ("too-many", "access-control")


def test_what_waits_for_a_log_is_cut_into_records_that_fit():
    """While JetStream is away an insider can have thousands of hashes countersigned."""
    journal, answered = Journal(), []
    record = ConferenceRecord(countersigned=[wire.Countersignature(head=bytes(32), host="h" * 200)])
    appends = list(journal.commit("conference-00", record, lambda _: []))
    for number in range(10_000):

        def then(now: float, number: int = number) -> list[Any]:
            answered.append(number)
            return []

        copy = ConferenceRecord()
        copy.CopyFrom(record)
        assert journal.commit("conference-00", copy, then) == []
    for append in appends:
        assert len(append.plaintext) <= MAX_ENTRY and append.marked
        appends += journal.appended(Appended("conference-00").log, NOW)
    assert answered == list(range(10_000))
    assert len(appends) == 4


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)
