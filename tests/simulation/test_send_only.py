"""Hosts that send to a group and are no members (paper, section 2.3.1), in a simulated domain: the real cores,
envelopes and packets. Each bullet of the paper's network-layer lists that packets decide has a test with its name."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from mcsa.esp.derive import TrafficKey
from mcsa.esp.inbound import CAUSES
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.spi import spi_for
from mcsa.esp.suite import suite_named
from mcsa.gkm import schemes
from mcsa.keys import GroupKey
from mcsa.path_control import InstallEpoch, SetRoster
from mcsa.send_only import SendOnlyGroup
from mcsa.v1.authorizer_pb2 import Eviction
from mcsa.v1.msm_pb2 import (
    CreateSessionRequest,
    CreateSessionResponse,
    DescribeGroupsRequest,
    EndSendingRequest,
    EvictMemberRequest,
)
from mcsa.v1.types_pb2 import POLICY_CLASS_CLOSED, POLICY_CLASS_OPEN, GroupPolicy
from services.authorizer.rules import Rules
from services.msm.events import SequenceLow
from services.msm.path import GroupPath, Received
from tests.simulation.domain import Domain
from tests.simulation.network import Weather
from tests.simulation.nodes import MsmNode, Outcome
from tests.simulation.test_groups import USERS, eject, heard

MEMBERS = ("alpha", "beta", "gamma")
OUTSIDER, USER = "echo", "eve"
QUICK = GroupPolicy(beacon_ms=200, beacon_silence_ms=1_000, lease_s=6)


class Scene:
    """Three members, and a host outside that sends."""

    def __init__(
        self, seed: int = 1, policy: GroupPolicy | None = None, *, weather: Weather | None = None, closed: bool = False
    ) -> None:
        self.domain = Domain(seed, weather, hosts=(*MEMBERS, OUTSIDER))
        self.session: CreateSessionResponse = self.domain.create(
            policy=policy,
            policy_class=POLICY_CLASS_CLOSED if closed else POLICY_CLASS_OPEN,
            senders=(USER,) if closed else (),
        )
        self.group = self.session.groups[0]
        self.id = self.group.group_id
        for host in MEMBERS:
            assert self.domain.csm[host].join(self.group, self.session.conference_id, USERS[host]).refused is None
        self.domain.network.run_for(1.0)
        self.wiretap: list[tuple[bytes, str]] = []
        self.domain.network.join(self.group.address, "wiretap", lambda *seen: self.wiretap.append(seen))

    def send_only(self, host: str = OUTSIDER, user: str = USER) -> Outcome:
        return self.domain.csm[host].send_only(self.group, self.session.conference_id, user)

    def begin(self) -> SendOnlyGroup:
        outcome = self.send_only()
        assert outcome.refused is None, outcome.refused
        self.domain.network.run_for(0.5)
        return self.sending

    @property
    def outsider(self) -> MsmNode:
        return self.domain.msm[OUTSIDER]

    @property
    def sending(self) -> SendOnlyGroup:
        return self.outsider.core.sending_only.groups[self.id]

    @property
    def authority(self) -> Any:
        return self.domain.authorizer.core.groups[self.id]

    def say(self, text: bytes) -> bool:
        sent = self.outsider.send(self.id, text)
        self.domain.network.run_for(0.1)
        return sent

    def heard_by(self, host: str) -> list[bytes]:
        return heard(self.domain.msm[host], self.id)

    def all_heard(self, text: bytes) -> bool:
        return all(self.heard_by(host).count(text) == 1 for host in MEMBERS)

    def changes(self) -> list[str]:
        return [told.change for told in self.domain.csm[OUTSIDER].core.told]


# ---- open multicast, receiver's view


def test_open_multicast_any_host_is_free_to_join_and_receive_without_permission_asked_of_anybody():
    scene = Scene()
    joined = scene.domain.csm[OUTSIDER].join(scene.group, scene.session.conference_id, "nobody-knows-me")
    assert joined.refused is None
    scene.domain.network.run_for(1.0)
    scene.domain.msm["alpha"].send(scene.id, b"to all")
    scene.domain.network.run_for(0.5)
    assert scene.heard_by(OUTSIDER) == [b"to all"]


# ---- closed multicast, receiver's view


def test_closed_multicast_permission_is_asked_for_and_enforced_by_encryption():
    scene = Scene(closed=True)
    refused = scene.domain.csm[OUTSIDER].join(scene.group, scene.session.conference_id, USER).refused
    assert refused is not None and refused.rule == "closed-group-admits-acceptable-users-only"
    scene.begin()  # it may send, and joins the multicast group itself, by IGMP, which nobody can keep it from
    path = scene.outsider.paths[scene.id]
    scene.domain.msm["alpha"].send(scene.id, b"among us")
    scene.domain.network.run_for(0.2)
    assert scene.wiretap and all(b"among us" not in raw for raw, _ in scene.wiretap)
    assert [path.open(raw, source, scene.domain.network.now) for raw, source in scene.wiretap] == [
        [] for _ in scene.wiretap
    ]


# ---- open multicast, sender's view


def test_open_multicast_any_host_can_create_a_group():
    for host, user in ((OUTSIDER, "nobody-knows-me"), ("beta", "bob")):
        domain = Domain(hosts=(host,))
        signed = domain.describe(coordinator=user, policy_class=POLICY_CLASS_OPEN)
        outcome = domain.csm[host].ask("create-session", CreateSessionRequest(description=signed))
        assert outcome.refused is None and len(outcome.message.groups) == 1


def test_open_multicast_any_host_can_send_without_being_a_member():
    scene = Scene()
    members = len(scene.authority.members)
    sending = scene.begin()
    assert scene.say(b"from outside")
    assert scene.all_heard(b"from outside")
    received = next(each for each in scene.domain.msm["beta"].received[scene.id] if each.payload == b"from outside")
    entry = scene.domain.msm["beta"].core.memberships[scene.id].roster[received.sender_id]
    assert entry.send_only and entry.host == str(scene.domain.world.host(OUTSIDER).id)
    assert list(entry.users) == [str(scene.domain.world.user(USER).id)]
    assert received.sender_id == sending.sender_id
    assert len(scene.authority.members) == members
    assert scene.id not in scene.outsider.core.memberships


def test_open_multicast_any_host_can_send_to_any_group():
    scene = Scene()
    second = scene.domain.describe(coordinator="bob", policy_class=POLICY_CLASS_OPEN)
    other = scene.domain.csm["beta"].ask("create-session", CreateSessionRequest(description=second)).message
    assert scene.domain.csm["beta"].join(other.groups[0], other.conference_id, "bob").refused is None
    scene.begin()
    assert scene.domain.csm[OUTSIDER].send_only(other.groups[0], other.conference_id, USER).refused is None
    scene.domain.network.run_for(0.5)
    assert scene.say(b"here")
    assert scene.outsider.send(other.groups[0].group_id, b"and there")
    scene.domain.network.run_for(0.5)
    assert scene.all_heard(b"here")
    assert heard(scene.domain.msm["beta"], other.groups[0].group_id) == [b"and there"]


# ---- closed multicast, sender's view


def test_closed_multicast_not_everyone_can_create_a_group():
    domain = Domain(hosts=("alpha", OUTSIDER))
    creators = [str(domain.world.user("alice").id)]
    domain.authorizer.core._rules = Rules(domain.world.domain, creators=creators)
    for host, user, rule in ((OUTSIDER, USER, "listed-creators-only"), ("alpha", "alice", None)):
        asked = CreateSessionRequest(description=domain.describe(coordinator=user))
        refused = domain.csm[host].ask("create-session", asked).refused
        assert (None if refused is None else refused.rule) == rule
    assert len(domain.authorizer.core.groups) == 1


def test_closed_multicast_only_members_send_and_who_is_named():
    scene = Scene(closed=True)
    refused = scene.send_only(user="mallory").refused
    assert refused is not None and refused.rule == "closed-group-hears-acceptable-senders-only"
    assert "mallory" in refused.sentence and "acceptable senders" in refused.sentence
    assert not scene.outsider.core.sending_only.groups and not scene.outsider.paths
    scene.begin()
    assert scene.say(b"named") and scene.all_heard(b"named")


def test_closed_multicast_what_a_stranger_sends_is_heard_by_nobody():
    scene = Scene(closed=True)
    suite = suite_named(scene.group.policy.suite)
    stranger = OutboundAssociation(TrafficKey(bytes(suite.keymat_size), suite, spi_for(scene.authority.epoch, 2)))
    source = scene.domain.msm["alpha"].address
    scene.domain.network.send(source, scene.group.address, stranger.seal(b"let me in", 5004, 5004))
    scene.domain.network.run_for(0.2)
    assert scene.heard_by("beta") == []
    assert scene.domain.msm["beta"].paths[scene.id].counters["integrity"] == 1


# ---- what it has, and what it doesn't


def test_it_is_never_told_a_group_key_and_its_path_has_none():
    scene = Scene()
    seen: list[bytes] = []
    answered = scene.outsider.answered

    def keep(raw: bytes) -> None:
        seen.append(raw)
        answered(raw)

    scene.outsider.answered = keep  # type: ignore[method-assign]
    keys = [scene.authority.key]
    scene.begin()
    for _ in range(3):
        scene.domain.age_key(scene.id)
        scene.domain.network.run_for(1.0)
        keys.append(scene.authority.key)
    assert len(set(keys)) == 4 and len(seen) >= 4
    path = scene.outsider.paths[scene.id]
    assert path._inbound.epochs == () and not path._keys
    held = [value for value in _everything_in(scene.sending) if isinstance(value, GroupKey)]
    assert held == []


def test_it_opens_nothing_of_all_that_it_ever_received():
    scene = Scene()
    scene.begin()
    for number in range(30):
        for host in MEMBERS:
            scene.domain.msm[host].send(scene.id, f"secret {number}".encode())
        if number % 10 == 9:
            scene.domain.age_key(scene.id)
        scene.domain.network.run_for(0.1)
    packets = list(scene.wiretap)
    assert len(packets) > 90
    path = scene.outsider.paths[scene.id]
    for raw, source in packets:
        assert path.open(raw, source, scene.domain.network.now) == []
    dropped = sum(path.counters[cause] for cause in CAUSES)
    assert dropped == len(packets) and path.counters["opened"] == 0


@pytest.mark.parametrize("suite_name", ["aes-256-gcm", "aes-128-gcm", "chacha20-poly1305"])
def test_a_hostile_one_that_kept_all_its_keys_opens_no_packet_and_is_heard_under_no_other_spi(suite_name: str):
    scene = Scene(policy=GroupPolicy(suite=suite_name))
    kept: list[TrafficKey] = []
    carry_out = scene.outsider.carry_out

    def keep(effect: Any) -> None:
        if type(effect).__name__ == "SendUnder":
            kept.append(effect.key)
        carry_out(effect)

    scene.outsider.carry_out = keep  # type: ignore[method-assign]
    sending = scene.begin()
    scene.domain.age_key(scene.id)
    scene.domain.network.run_for(1.0)
    for host in MEMBERS:
        scene.domain.msm[host].send(scene.id, b"secret")
    scene.domain.network.run_for(0.2)
    assert len(kept) == 2
    suite, now = suite_named(suite_name), scene.domain.network.now
    roster = dict.fromkeys(scene.authority.roster._entries, "")
    epoch = scene.authority.epoch
    opened: list[Any] = []
    for key in kept:  # as if what it has were a group key, whole or cut; and as if it were another sender's
        guesses = [key.reveal()[:32].ljust(32, b"\0"), key.reveal()[-32:].ljust(32, b"\0")]
        for guess in guesses:
            path = GroupPath(sending.domain, scene.group)
            path.carry_out(InstallEpoch(scene.id, epoch, GroupKey(guess)), now)
            for raw, source in scene.wiretap:
                path.carry_out(SetRoster(scene.id, dict.fromkeys(roster, source), None, None), now)
                opened += [item for item in path.open(raw, source, now) if isinstance(item, Received)]
        for raw, _ in scene.wiretap:
            nonce = key.salt + raw[8:16]
            with pytest.raises(InvalidTag):
                opened.append(key.cipher().decrypt(nonce, raw[16:], raw[:8]))
    assert opened == []
    before = {host: len(scene.domain.msm[host].received[scene.id]) for host in MEMBERS}
    for host in MEMBERS:  # in a member's name, from that member's address: the network can't keep it from that
        victim = scene.domain.msm[host].core.memberships[scene.id].sender_id
        assert victim is not None
        forged = TrafficKey(kept[-1].reveal(), suite, spi_for(epoch, victim))
        association = OutboundAssociation(forged)
        packet = [association.seal(b"I am " + host.encode(), 5004, 5004) for _ in range(9)][-1]  # a fresh number
        scene.domain.network.send(scene.domain.msm[host].address, scene.group.address, packet)
    scene.domain.network.run_for(0.2)
    assert {host: len(scene.domain.msm[host].received[scene.id]) for host in MEMBERS} == before
    assert all(scene.domain.msm[host].paths[scene.id].counters["integrity"] == 2 for host in MEMBERS)


def test_it_can_not_make_members_believe_that_the_authorizer_speaks():
    scene = Scene()
    scene.begin()
    before = scene.domain.msm["beta"].core.memberships[scene.id].number
    scene.outsider.send(scene.id, b"\x0a\x03abc", port=848)
    scene.domain.network.run_for(0.2)
    assert scene.domain.msm["beta"].core.memberships[scene.id].number == before
    assert scene.heard_by("beta") == [b"\x0a\x03abc"]  # a payload like any other, to applications that no one runs


# ---- from epoch to epoch


def test_it_follows_a_rollover_and_members_hear_it_all_along():
    scene = Scene()
    sending = scene.begin()
    said = []
    for number in range(60):
        if number in (15, 40):
            scene.domain.age_key(scene.id)
        said.append(f"word {number}".encode())
        assert scene.outsider.send(scene.id, said[-1])
        scene.domain.network.run_for(0.05)
    scene.domain.network.run_for(1.0)
    assert sending.epoch == scene.authority.epoch and len(sending.epochs) == 3
    for host in MEMBERS:
        assert scene.heard_by(host) == said


@pytest.mark.parametrize("seed", range(4))
def test_it_follows_ejections_of_others_at_once(seed: int):
    scene = Scene(seed, weather=Weather(jitter=0.02))
    scene.begin()
    said = []
    for number in range(60):
        if number == 20:
            eject(scene.domain, "carol")
        said.append(f"word {number}".encode())
        assert scene.outsider.send(scene.id, said[-1])
        scene.domain.network.run_for(0.02)
    scene.domain.network.run_for(1.0)
    assert sorted(scene.heard_by("beta")) == sorted(said)
    switched = scene.sending.switched_at
    assert switched - scene.authority.epoch / 1000 < 0.3


def test_who_is_thrown_out_reads_nothing_that_it_says_in_the_next_epoch():
    scene = Scene()
    scene.begin()
    gamma = scene.domain.msm["gamma"]
    eject(scene.domain, "carol")
    scene.domain.network.run_for(0.3)
    scene.wiretap.clear()
    assert scene.say(b"not for carol")
    opened = [
        item
        for raw, source in scene.wiretap
        for item in gamma.paths[scene.id].open(raw, source, scene.domain.network.now)
    ]
    assert [item for item in opened if isinstance(item, Received)] == []
    assert scene.heard_by("beta") == [b"not for carol"]


def test_where_it_hears_no_beacon_it_stops_and_goes_on_when_one_comes():
    scene = Scene(policy=QUICK)
    scene.begin()
    told, scene.outsider.told = scene.outsider.told, lambda subject, raw: None  # type: ignore[method-assign]
    scene.domain.network.run_for(1.5)
    assert scene.sending.state == "silenced" and not scene.say(b"into the dark")
    assert scene.outsider.paths[scene.id].counters["unsent.paused"] == 1
    scene.outsider.told = told  # type: ignore[method-assign]
    scene.domain.network.run_for(0.5)
    assert scene.sending.state == "sending-only"
    assert scene.say(b"again") and scene.all_heard(b"again")
    assert [change for change in scene.changes() if change in ("silenced", "resumed")] == ["silenced", "resumed"]


def test_beacons_come_also_where_there_is_no_member_yet():
    domain = Domain(hosts=("alpha", OUTSIDER))
    session = domain.create(policy=QUICK, policy_class=POLICY_CLASS_OPEN)
    assert domain.csm[OUTSIDER].send_only(session.groups[0], session.conference_id, USER).refused is None
    domain.network.run_for(140.0)  # a new process sends beacons to everybody for two minutes
    sending = domain.msm[OUTSIDER].core.sending_only.groups[session.groups[0].group_id]
    assert sending.state == "sending-only"
    assert "silenced" not in [told.change for told in domain.csm[OUTSIDER].core.told]


def test_where_it_gets_no_key_of_a_newer_epoch_it_stops_within_the_overlap():
    scene = Scene()
    sending = scene.begin()
    answered, scene.outsider.answered = scene.outsider.answered, lambda raw: None  # type: ignore[method-assign]
    eject(scene.domain, "carol")
    scene.domain.network.run_for(0.65)
    assert sending.state == "silenced" and not scene.say(b"to carol too")
    scene.outsider.answered = answered  # type: ignore[method-assign]
    scene.domain.network.run_for(5.0)
    assert sending.state == "sending-only" and sending.epoch == scene.authority.epoch
    assert scene.say(b"again") and scene.heard_by("beta") == [b"again"]


def test_beacons_that_somebody_else_makes_or_repeats_do_nothing():
    scene = Scene(policy=QUICK)
    sending = scene.begin()
    heard_all: list[bytes] = []
    told = scene.outsider.told

    def keep(subject: str, raw: bytes) -> None:
        heard_all.append(raw)

    scene.outsider.told = keep  # type: ignore[method-assign]
    scene.domain.network.run_for(0.5)
    assert heard_all
    before = sending.epoch, sending.state
    subject = f"mcsa.v1.group.main.{scene.id.hex()}"
    for raw in heard_all[:1] * 10 + [raw[:-1] + bytes([raw[-1] ^ 1]) for raw in heard_all]:
        told(subject, raw)
    scene.domain.network.run_for(0.9)  # one of them was good, once
    assert (sending.epoch, sending.state) == before
    scene.domain.network.run_for(0.5)
    assert sending.state == "silenced"
    assert scene.outsider.endpoint.counters["rejected.update.signature"] >= 1


# ---- thrown out, gone, restarted


@pytest.mark.parametrize("user_or_host", ["user", "host"])
def test_thrown_out_it_is_heard_no_more_and_gets_no_key(user_or_host: str):
    scene = Scene(policy=QUICK)
    sending = scene.begin()
    epoch = scene.authority.epoch
    subject = scene.domain.world.user(USER) if user_or_host == "user" else scene.domain.world.host(OUTSIDER)
    eject(scene.domain, USER) if user_or_host == "user" else _eject_host(scene, str(subject.id))
    scene.domain.network.run_for(0.1)
    assert scene.authority.epoch == epoch  # it reads nothing: no key has to be replaced for its sake
    assert scene.say(b"still here?")  # it may not have noticed
    assert not any(scene.heard_by(host) for host in MEMBERS)
    assert all(scene.domain.msm[host].paths[scene.id].counters["unknown-sender"] for host in MEMBERS)
    scene.domain.age_key(scene.id)
    scene.domain.network.run_for(3.0)
    assert sending.epoch == epoch and sending.state == "stale"
    assert not scene.say(b"anybody?")
    assert scene.changes()[-1] == "statement-needed"
    refused = scene.send_only().refused
    assert refused is not None and refused.rule == f"unacceptable-{user_or_host}"


def _eject_host(scene: Scene, host: str) -> None:
    now = round(scene.domain.network.now * 1000)
    eviction = Eviction(conference_id=scene.session.conference_id, subject=host, time_ms=now)
    signed = scene.domain.world.user("alice").sign_statement("mcsa eviction v1", eviction.SerializeToString())
    authorizer = str(scene.domain.world.authorizer.id)
    asked = EvictMemberRequest(conference_id=scene.session.conference_id, eviction=signed, authorizer=authorizer)
    assert scene.domain.csm["alpha"].ask("evict-member", asked).refused is None


def test_it_ends_when_its_user_says_so():
    scene = Scene()
    sending = scene.begin()
    assert scene.domain.csm[OUTSIDER].ask("end-sending", EndSendingRequest(group_id=scene.id)).refused is None
    scene.domain.network.run_for(0.5)
    assert sending.sender_id not in scene.authority.roster
    assert not scene.outsider.paths and not scene.outsider.core.sending_only.groups
    assert scene.domain.csm[OUTSIDER].ask("end-sending", EndSendingRequest(group_id=scene.id)).refused is None


def test_a_host_that_vanishes_is_off_the_roster_when_its_lease_ends():
    scene = Scene(policy=QUICK)
    sender_id = scene.begin().sender_id
    scene.domain.network.run_for(20.0)
    assert sender_id in scene.authority.roster  # it renews
    scene.outsider.kill()
    scene.domain.network.run_for(10.0)
    assert sender_id not in scene.authority.roster
    assert all(sender_id not in scene.domain.msm[host].core.memberships[scene.id].roster for host in MEMBERS)


def test_it_goes_on_over_a_restart_of_the_authorizer_under_the_same_sender_id_and_a_fresh_key():
    scene = Scene(policy=QUICK)
    sending = scene.begin()
    sender_id, epoch = sending.sender_id, sending.epoch
    scene.domain.restart_authorizer()
    scene.domain.network.run_for(2.0)
    assert sending.sender_id == sender_id and sending.epoch == scene.authority.epoch > epoch
    assert scene.authority.roster[sender_id].send_only
    assert scene.say(b"after the restart") and scene.all_heard(b"after the restart")
    scene.domain.network.run_for(20.0)
    assert sender_id in scene.authority.roster


def test_after_a_restart_of_its_msm_it_has_a_sender_id_of_its_own_again():
    scene = Scene()
    first = scene.begin().sender_id
    scene.domain.restart_msm(OUTSIDER)
    second = scene.begin().sender_id
    assert second != first and first not in scene.authority.roster
    assert scene.say(b"back") and scene.all_heard(b"back")


def test_where_its_sequence_numbers_run_out_it_asks_for_a_new_sender_id():
    scene = Scene()
    sending = scene.begin()
    first, epoch = sending.sender_id, sending.epoch
    scene.outsider.event(SequenceLow(scene.id))
    scene.domain.network.run_for(0.1)
    assert scene.changes()[-1] == "statement-needed"
    assert scene.say(b"meanwhile") and scene.all_heard(b"meanwhile")
    scene.begin()
    assert sending.sender_id != first and sending.epoch == epoch  # its own numbers ran out: no other key has to go
    assert scene.say(b"afterwards") and scene.all_heard(b"afterwards")


def test_where_the_authorizer_began_anew_it_registers_again():
    scene = Scene(policy=QUICK)
    sending = scene.begin()
    kept = scene.domain.authorizer.core._kept
    scene.domain.authorizer.perform(kept.begin_anew(scene.authority, scene.domain.network.now))
    scene.domain.network.run_for(1.0)
    assert sending.state == "stale" and scene.changes()[-1] == "statement-needed"
    scene.begin()
    assert scene.sending.epoch == scene.authority.epoch
    assert scene.say(b"anew")


# ---- one or the other


def test_a_host_can_not_be_a_member_and_send_only():
    scene = Scene()
    scene.begin()
    refused = scene.domain.csm[OUTSIDER].join(scene.group, scene.session.conference_id, USER).refused
    assert refused is not None and refused.rule == "member-or-send-only"
    refused = scene.send_only("beta", "bob").refused
    assert refused is not None and refused.rule == "member-or-send-only"
    refused = scene.send_only(user="zoe").refused
    assert refused is not None and refused.rule == "one-user-a-host"


def test_a_member_that_comes_back_as_a_sender_only_reads_nothing_more():
    scene = Scene()
    scene.domain.restart_msm("gamma")  # and forgets that it is a member
    old = scene.authority.key
    assert scene.send_only("gamma", "carol").refused is None
    scene.domain.network.run_for(1.0)
    assert scene.authority.key != old
    assert str(scene.domain.world.host("gamma").id) not in scene.authority.members
    assert scene.domain.msm["gamma"].send(scene.id, b"from outside now")
    scene.domain.network.run_for(0.5)
    assert scene.heard_by("beta") == [b"from outside now"]


def test_its_state_is_shown_and_the_roster_is_not():
    scene = Scene()
    sending = scene.begin()
    scene.say(b"one")
    state = scene.domain.csm[OUTSIDER].ask("describe-groups", DescribeGroupsRequest()).message.groups[0]
    assert (state.state, state.sender_id, state.epoch) == ("sending-only", sending.sender_id, sending.epoch)
    assert state.packets["sent"] == 1 and not state.roster


# ---- every group key management protocol


@pytest.mark.parametrize("gkm", sorted(schemes()))
def test_with_every_key_management_protocol_it_is_heard_by_all_and_hears_nothing(gkm: str):
    scene = Scene(policy=GroupPolicy(gkm=gkm, subgroup_size=2))
    scene.domain.network.run_for(5.0)
    scene.begin()
    scene.domain.network.run_for(3.0)
    assert scene.say(b"one")
    scene.domain.network.run_for(1.0)
    assert scene.all_heard(b"one"), {host: scene.heard_by(host) for host in MEMBERS}
    eject(scene.domain, "carol")
    scene.domain.network.run_for(3.0)
    assert scene.say(b"two")
    scene.domain.network.run_for(1.0)
    assert all(b"two" in scene.heard_by(host) for host in ("alpha", "beta"))
    assert b"two" not in scene.heard_by("gamma")
    assert scene.outsider.received.get(scene.id, []) == []
    eject(scene.domain, USER)
    scene.domain.network.run_for(3.0)
    scene.say(b"three")
    scene.domain.network.run_for(1.0)
    assert all(b"three" not in scene.heard_by(host) for host in MEMBERS)


def _everything_in(thing: Any, depth: int = 4) -> list[Any]:
    """All that an object leads to, so many steps away."""
    if depth == 0:
        return []
    inside = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    inside += (
        list(thing.values()) if isinstance(thing, dict) else list(thing) if isinstance(thing, list | tuple) else []
    )
    return inside + [found for each in inside for found in _everything_in(each, depth - 1)]
