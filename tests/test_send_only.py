"""`SendOnlyGroup`: what a host that sends and is no member believes, asks for and stops at. Pure: no bus, no clock."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mcsa.conference_id import CONFERENCE_LABEL
from mcsa.envelope import sign_envelope
from mcsa.errors import Rejected
from mcsa.esp.spi import SENDER_ID_LIMIT
from mcsa.membership import LATE_BEACON, Changed
from mcsa.path_control import PauseSending, ResumeSending, SendUnder
from mcsa.policy import complete_policy
from mcsa.send_only import ASK_AT_LEAST_EACH, ASK_EACH, ASK_JITTER, KeyWanted, SendOnlyGroup
from mcsa.updates import beacon_message, group_recipient, update_message
from mcsa.v1.authorizer_pb2 import Beacon, SendingAssociation
from mcsa.v1.types_pb2 import ConferenceDescription, GroupDescription, GroupPolicy
from tests.world import NOW, World, seeded

GROUP_ID, CONFERENCE_ID = bytes(16), bytes([1]) * 16
EPOCH = round(NOW * 1000)
KEYMAT = bytes(range(36))


class Host:
    """A host that has just been let in, at NOW."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.authorizer = str(world.authorizer.id)
        policy = complete_policy(GroupPolicy())
        self.group = GroupDescription(group_id=GROUP_ID, name="audio", address="239.255.64.1", port=5004, policy=policy)
        self.sending = SendOnlyGroup(
            self.group, self.authorizer, CONFERENCE_ID, "spiffe://d/user/eve", world.trust(), seeded(3)
        )

    def association(self, **changes: Any) -> SendingAssociation:
        description = ConferenceDescription(authorizer=changes.pop("home", self.authorizer))
        association = SendingAssociation(
            group=self.group,
            conference_id=CONFERENCE_ID,
            description=self.world.user("alice").sign_statement(CONFERENCE_LABEL, description.SerializeToString()),
            sender_id=7,
            epoch=EPOCH,
            keymat=KEYMAT,
        )
        for name, value in changes.items():
            setattr(association, name, value)
        return association

    def begin(self) -> list[Any]:
        return self.sending.install(self.association(), NOW)

    def beacon(self, epoch: int = EPOCH, at: float = NOW + 0.1, signer: Any = None) -> bytes:
        beacon = Beacon(group_id=GROUP_ID, epoch=epoch, update_number=1, time_ms=round(at * 1000))
        credentials = signer or self.world.authorizer
        raw, _ = sign_envelope(credentials, beacon, group_recipient(GROUP_ID), bytes(16), at + 60)
        return beacon_message(raw)

    def hear(self, epoch: int = EPOCH, at: float = NOW + 0.1) -> list[Any]:
        return self.sending.message_arrived(self.beacon(epoch, at), at)

    def asked(self, until: float) -> list[float]:
        """When it asks for a key, up to a time."""
        times = []
        while (at := self.sending.wake_at()) is not None and at <= until:
            times += [at for effect in self.sending.woken(at) if isinstance(effect, KeyWanted)]
        return times


@pytest.fixture
def host(world: World) -> Host:
    return Host(world)


def test_it_sends_under_what_it_was_given(host: Host):
    effects = host.begin()
    (switch,) = [effect for effect in effects if isinstance(effect, SendUnder)]
    assert (switch.epoch, switch.sender_id, switch.key.spi & 0xFFFFF) == (EPOCH, 7, 7)
    assert switch.key.reveal() == KEYMAT
    assert host.sending.state == "sending-only"


@pytest.mark.parametrize(
    "changes",
    [
        {"conference_id": bytes(16)},
        {"home": "spiffe://example.org/authorizer/other"},
        {"keymat": KEYMAT[:-1]},
        {"sender_id": SENDER_ID_LIMIT},
    ],
    ids=str,
)
def test_an_association_that_was_not_asked_for_is_rejected(host: Host, changes: dict[str, Any]):
    with pytest.raises(Rejected, match="association"):
        host.sending.install(host.association(**changes), NOW)
    assert host.sending.sender_id is None and host.sending.wake_at() is None


@pytest.mark.parametrize(("field", "value"), [("group_id", b"x" * 16), ("address", "239.255.64.2"), ("port", 5006)])
def test_an_association_of_another_group_is_rejected(host: Host, field: str, value: Any):
    association = host.association()
    setattr(association.group, field, value)
    with pytest.raises(Rejected, match="another group"):
        host.sending.install(association, NOW)


def test_no_key_is_installed_twice(host: Host):
    host.begin()
    with pytest.raises(Rejected, match="an epoch that was"):
        host.begin()
    host.sending.install(host.association(sender_id=8), NOW)  # its numbers ran out: the same epoch, another sender ID
    with pytest.raises(Rejected, match="an epoch that was"):
        host.begin()
    with pytest.raises(Rejected, match="an epoch that was"):
        host.sending.install(host.association(sender_id=9, epoch=EPOCH - 1), NOW)


def test_a_newer_epoch_in_a_beacon_makes_it_ask_soon_and_again(host: Host):
    host.begin()
    host.hear(EPOCH + 5)
    asked = host.asked(NOW + 20)
    assert NOW + 0.1 <= asked[0] <= NOW + 0.1 + ASK_JITTER
    between = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert between[0] == pytest.approx(ASK_EACH, abs=1e-3) and max(between) <= ASK_AT_LEAST_EACH + 1e-3
    assert len(asked) < 12


def test_the_key_of_a_newer_epoch_is_used_when_members_switch(host: Host):
    host.begin()
    host.hear(EPOCH + 5)
    effects = host.sending.renewed(host.association(epoch=EPOCH + 5, activation_ms=200), NOW + 0.2)
    assert not [effect for effect in effects if isinstance(effect, SendUnder)]
    assert not host.sending.woken(NOW + 0.39)
    (switch, changed) = host.sending.woken(NOW + 0.4)
    assert isinstance(switch, SendUnder) and switch.epoch == EPOCH + 5
    assert isinstance(changed, Changed) and changed.what == "switched"
    at_once = host.sending.renewed(host.association(epoch=EPOCH + 9), NOW + 0.5)
    assert any(isinstance(effect, SendUnder) and effect.epoch == EPOCH + 9 for effect in at_once)


def test_an_epoch_that_overtakes_another_is_the_only_one_switched_to(host: Host):
    host.begin()
    host.sending.renewed(host.association(epoch=EPOCH + 5, activation_ms=200), NOW)
    host.sending.renewed(host.association(epoch=EPOCH + 9), NOW + 0.1)
    later = [effect for effect in host.sending.woken(NOW + 1) if isinstance(effect, SendUnder)]
    assert later == [] and host.sending.epoch == EPOCH + 9


def test_a_late_answer_changes_nothing(host: Host):
    host.begin()
    host.sending.renewed(host.association(epoch=EPOCH + 9), NOW)
    assert host.sending.renewed(host.association(epoch=EPOCH + 5), NOW) == []
    assert host.sending.renewed(None, NOW) == []
    with pytest.raises(Rejected, match="another sender ID"):
        host.sending.renewed(host.association(epoch=EPOCH + 20, sender_id=8), NOW)


def test_without_the_key_of_a_newer_epoch_it_stops_within_an_ejections_overlap(host: Host):
    host.begin()
    host.hear(EPOCH + 5, NOW + 1)
    overlap = host.group.policy.ejection_deactivation_ms / 1000
    host.asked(NOW + 1 + overlap - 0.01)
    assert host.sending.state == "sending-only"
    effects = host.sending.woken(NOW + 1 + overlap)
    assert any(isinstance(effect, PauseSending) for effect in effects)
    assert host.sending.state == "silenced"
    host.hear(EPOCH + 5, NOW + 2)  # that beacons come is not enough
    assert host.sending.state == "silenced"
    host.sending.renewed(host.association(epoch=EPOCH + 5), NOW + 3)
    assert host.sending.state == "sending-only"


def test_without_beacons_it_stops_and_goes_on_with_the_next(host: Host):
    host.begin()
    silence = host.group.policy.beacon_silence_ms / 1000
    assert not [each for each in host.sending.woken(NOW + silence - 0.01) if isinstance(each, PauseSending)]
    assert any(isinstance(effect, PauseSending) for effect in host.sending.woken(NOW + silence))
    assert any(isinstance(effect, ResumeSending) for effect in host.hear(at=NOW + silence + 1))


def test_it_renews_thrice_in_a_lease(host: Host):
    host.begin()
    lease = host.group.policy.lease_s
    asked = []
    for second in range(2 * lease):
        host.hear(at=NOW + second + 0.5)
        asked += host.asked(NOW + second + 1)
    assert 6 <= len(asked) <= 8


def test_an_authorizer_in_an_older_epoch_has_lost_its_past(host: Host):
    host.begin()
    late = host.hear(EPOCH - 1, NOW + LATE_BEACON / 1000)
    assert late == [] and host.sending.state == "sending-only"
    effects = host.hear(EPOCH - 1, NOW + LATE_BEACON / 1000 + 0.1)
    assert [effect.what for effect in effects if isinstance(effect, Changed)] == ["statement-needed"]
    assert host.sending.state == "stale" and host.sending.wake_at() is None
    assert host.hear(EPOCH, NOW + 9) == []
    assert host.sending.lost("again") == []
    assert host.sending.renewed(None, NOW + 9) == []


def test_of_two_beacons_of_one_millisecond_the_one_with_the_newer_epoch_counts(host: Host):
    host.begin()
    host.hear(EPOCH)
    host.hear(EPOCH + 5)
    assert host.asked(NOW + 0.2)


def test_a_beacon_that_was_heard_says_nothing_twice(host: Host):
    host.begin()
    silence = host.group.policy.beacon_silence_ms / 1000
    old = host.beacon(at=NOW + 1)
    host.sending.message_arrived(old, NOW + 1)
    host.sending.message_arrived(old, NOW + silence)
    assert any(isinstance(effect, PauseSending) for effect in host.sending.woken(NOW + silence + 1))


def test_only_the_authorizers_beacons_count_and_updates_are_not_for_it(host: Host):
    host.begin()
    for signer in (host.world.host("alpha"), host.world.user("alice"), World().authorizer):
        with pytest.raises(Rejected):
            host.sending.message_arrived(host.beacon(EPOCH + 5, signer=signer), NOW + 0.1)
    with pytest.raises(Rejected, match="malformed"):
        host.sending.message_arrived(b"rubbish", NOW + 0.1)
    assert host.sending.message_arrived(update_message(b"sealed to members"), NOW + 0.1) == []
    assert not host.asked(NOW + 1)


def test_before_it_is_let_in_it_hears_nothing(host: Host):
    assert host.sending.message_arrived(b"rubbish", NOW) == []
    assert host.sending.wake_at() is None and host.sending.woken(NOW) == []
