"""Users that send to a conference's media groups and take no part in it: what their CSM does, and the others' don't."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.errors import Refused
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1.authorizer_pb2 import UserStatement
from mcsa.v1.types_pb2 import POLICY_CLASS_OPEN, GroupDescription, GroupPolicy
from services.csm.events import UserLoaded
from services.csm.joining import Joining
from tests.simulation.conference import ConferenceDomain
from tests.simulation.test_conferences import run_until_keyed
from tests.simulation.test_groups import heard

AUDIO = GroupDescription(name="audio", media="audio", format="96", port=5004)
QUICK = GroupPolicy(beacon_ms=200, beacon_silence_ms=1_000, lease_s=6)


class Scene:
    """Alice and Bob in an open conference with an audio group; Eve on a host of her own."""

    def __init__(self, policy: GroupPolicy | None = None) -> None:
        self.domain = ConferenceDomain(hosts=("alpha", "beta", "echo"))
        self.alice = self.domain.application("alpha", "alice")
        self.bob = self.domain.application("beta", "bob")
        self.eve = self.domain.application("echo", "eve")
        self.conference_id = self.alice.convene(
            (), wait=1.0, policy_class=POLICY_CLASS_OPEN, media=(AUDIO,), policy=policy
        )
        self.bob.join(self.conference_id)
        run_until_keyed(self.domain, [self.alice, self.bob], 20.0)

    def request(self, group: str = "audio", conference_id: bytes | None = None) -> wire.SendOnlyRequest:
        return wire.SendOnlyRequest(
            user=wire.UserKey(path="eve"), conference_id=conference_id or self.conference_id, group=group
        )

    def begin(self) -> wire.SendOnlyResponse:
        response = self.eve.ask("send-only", self.request())
        assert isinstance(response, wire.SendOnlyResponse)
        self.audio = response.group.group_id
        self.domain.network.run_for(0.5)
        return response

    def say(self, text: bytes) -> bool:
        msm = self.domain.msm["echo"]
        sent = self.audio in msm.paths and msm.send(self.audio, text)
        self.domain.network.run_for(0.2)
        return sent

    def heard_by(self, host: str) -> list[bytes]:
        return heard(self.domain.msm[host], self.audio)


def test_a_user_sends_to_a_media_group_and_is_in_no_conference():
    scene = Scene()
    epoch = scene.alice.state.key_epoch
    told = scene.begin()
    assert told.socket_path and told.group.name == "audio"
    assert scene.say(b"sound")
    assert scene.heard_by("alpha") == scene.heard_by("beta") == [b"sound"]
    scene.domain.network.run_for(15.0)
    for one in (scene.alice, scene.bob):
        assert one.state.key_epoch == epoch and len(one.state.participants) == 2
    assert not list(scene.domain.csms["echo"].core.participants)
    assert scene.domain.msm["echo"].core.memberships == {}


def test_who_only_sends_to_the_control_group_is_neither_waited_for_nor_called():
    domain = ConferenceDomain(hosts=("alpha", "beta", "echo"))
    alice = domain.application("alpha", "alice")
    conference_id = alice.convene((), wait=20.0, expected=("bob", "eve"), policy_class=POLICY_CLASS_OPEN)
    groups = alice.participant.terms.groups
    outcome: list[Any] = []
    _send_only_whatever_the_csm_says(domain, groups[0], conference_id, outcome)
    domain.network.run_for(2.0)
    assert outcome == [None]  # the Authorizer's rules let her: it is an open group
    bob = domain.application("beta", "bob")
    bob.join(conference_id)
    domain.network.run_for(5.0)
    assert alice.participant.view().state == "announced"  # Bob is there; Eve sends, and is not
    run_until_keyed(domain, [alice, bob], 30.0)
    assert len(alice.state.participants) == 2 and not alice.state.absent


def _send_only_whatever_the_csm_says(
    domain: ConferenceDomain, group: GroupDescription, conference_id: bytes, outcome: list[Any]
) -> None:
    node = domain.csms["echo"]

    def done(_answers: dict[bytes, Any], refusal: Any, _now: float) -> list[Any]:
        outcome.append(refusal)
        return []

    joining = Joining(
        domain.world.user("eve"),
        node.core.setting.host,
        node.core.setting.authorizer,
        conference_id,
        [group],
        done,
        send_only=True,
    )
    node.perform(node.endpoint.carry_out(joining.begin(), domain.network.now))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"group": "control"}, "control-group"),
        ({"group": "video"}, "name"),
        ({"conference_id": b"x" * 16}, "directory"),
    ],
)
def test_what_a_user_is_refused(changes: dict[str, Any], rule: str):
    scene = Scene()
    refused = scene.eve.refusal_of("send-only", scene.request(**changes))
    assert refused.rule == rule and len(refused.sentence) > 20
    assert not scene.domain.msm["echo"].core.sending_only.groups


def test_a_user_of_the_conference_is_refused_with_what_to_do():
    scene = Scene()
    asked = wire.SendOnlyRequest(user=wire.UserKey(path="bob"), conference_id=scene.conference_id, group="audio")
    assert scene.bob.refusal_of("send-only", asked).rule == "member-or-send-only"


def test_it_ends_by_hand():
    scene = Scene()
    scene.begin()
    end = wire.EndSendOnlyRequest(conference_id=scene.conference_id, group="audio")
    scene.eve.ask("end-send-only", end)
    scene.domain.network.run_for(0.5)
    assert not scene.say(b"gone") and scene.heard_by("alpha") == []
    assert scene.eve.refusal_of("end-send-only", end).rule == "send-only"


def test_the_users_word_is_given_again_after_a_restart_of_the_msm():
    scene = Scene()
    first = scene.begin().sender_id
    scene.domain.restart_msm("echo")
    scene.domain.network.run_for(3.0)
    assert scene.say(b"back") and scene.heard_by("beta") == [b"back"]
    assert scene.domain.msm["echo"].core.sending_only.groups[scene.audio].sender_id != first


def test_the_users_word_is_given_again_where_the_authorizer_began_anew():
    scene = Scene(QUICK)
    first = scene.begin().sender_id
    authorizer = scene.domain.authorizer
    group = authorizer.core.groups[scene.audio]
    authorizer.perform(authorizer.core._kept.begin_anew(group, scene.domain.network.now))
    scene.domain.network.run_for(10.0)
    assert scene.say(b"anew") and scene.heard_by("beta")[-1:] == [b"anew"]
    assert scene.domain.msm["echo"].core.sending_only.groups[scene.audio].sender_id != first


def test_the_users_word_is_given_again_after_a_restart_of_the_csm():
    scene = Scene(QUICK)
    first = scene.begin().sender_id
    scene.domain.restart_csm("echo")
    scene.domain.network.run_for(3.0)
    sending = scene.domain.msm["echo"].core.sending_only.groups[scene.audio]
    assert sending.sender_id != first
    scene.domain.restart_msm("echo")  # which it would be of no use to, had it forgotten
    scene.domain.network.run_for(3.0)
    assert scene.say(b"back") and scene.heard_by("beta") == [b"back"]
    again = scene.domain.application("echo", "eve")
    again.ask("end-send-only", wire.EndSendOnlyRequest(conference_id=scene.conference_id, group="audio"))
    scene.domain.restart_csm("echo")
    scene.domain.network.run_for(3.0)
    assert not scene.domain.msm["echo"].core.sending_only.groups


def test_what_a_restarted_csm_can_not_take_up_again_it_counts():
    scene = Scene()
    scene.begin()
    node = scene.domain.csms["echo"]
    ((place, state),) = node.disk.remembered.items()
    assert place[0] == scene.audio and state.send_only == "audio"
    (load,) = node.core._sending_only.recover(state)
    node.event(UserLoaded(load.then, None, Refused("user", "key-file", "the file is gone")))
    state.conference_id = bytes(16)  # not the description's
    node.event(UserLoaded(load.then, scene.domain.world.user("eve")))
    counted = [name for name in node.endpoint.counters if name.startswith("recovery.")]
    assert len(counted) == 2 and "recovery.key-file" in counted


def test_who_is_thrown_out_is_through_with_it():
    scene = Scene(QUICK)
    scene.begin()
    scene.alice.eject("eve")
    scene.domain.network.run_for(0.1)
    scene.say(b"to whom?")
    assert scene.heard_by("alpha") == scene.heard_by("beta") == []
    scene.domain.network.run_for(10.0)
    assert not scene.domain.msm["echo"].core.sending_only.groups and not scene.say(b"to nobody")
    assert scene.domain.csms["echo"].endpoint.counters["send-only.ended.not-allowed"] == 1
    assert scene.eve.refusal_of("send-only", scene.request()).rule == "unacceptable-user"


def test_a_csm_signs_for_sending_only_where_that_is_what_was_asked():
    """An MSM that asks for a member's statement gets none."""
    scene = Scene()
    msm = scene.domain.msm["echo"]
    prepare = msm.core._prepared.prepare

    def lie(request: Any, now: float) -> list[Any]:
        effects = prepare(request, now)
        statement = UserStatement.FromString(effects[0].message.statement)
        statement.send_only = False
        effects[0].message.statement = statement.SerializeToString()
        return effects

    msm.core._verbs["prepare-join"] = lie
    assert scene.eve.refusal_of("send-only", scene.request()).rule == "meaning"


def test_a_host_sends_to_so_many_groups_and_no_more(monkeypatch: pytest.MonkeyPatch):
    scene = Scene()
    scene.begin()
    monkeypatch.setattr("services.csm.sending_only.AT_ONCE", 1)
    assert scene.eve.refusal_of("send-only", scene.request()).code == "too-many"
