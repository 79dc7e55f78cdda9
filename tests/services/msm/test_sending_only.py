"""Groups that a host sends to and is no member of, at its MSM: each refusal, and what it makes of answers."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.conference_id import CONFERENCE_LABEL
from mcsa.endpoint import Answer, Answered, Count, Failed, Publish, Refuse, Request, Requested
from mcsa.errors import Refused
from mcsa.networks import Networks
from mcsa.policy import complete_policy
from mcsa.registration import seal_sending
from mcsa.v1 import authorizer_pb2 as authorizer_wire
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1.types_pb2 import ConferenceDescription, GroupDescription, GroupPolicy, SignedStatement
from services.msm.core import MsmCore
from services.msm.core_groups import Settings
from services.msm.events import (
    CloseGroup,
    GroupFailed,
    GroupMessage,
    GroupOpened,
    OpenSending,
    SequenceLow,
)
from services.msm.gpad import Accepted
from services.msm.prepared import PREPARED_AT_ONCE, STATEMENT_FOR
from tests.world import NOW, World, seeded

HOME, ELSEWHERE, HERE = (f"spiffe://{where}/authorizer/main" for where in ("example.org", "a.example", "example.org"))
GROUP_ID, CONFERENCE_ID = bytes([7]) * 16, bytes([8]) * 16
EPOCH = round(NOW * 1000)


class Desk:
    """An MSM's core, and the CSM that asks it."""

    def __init__(self, world: World) -> None:
        self.world = world
        lines = [Accepted(ELSEWHERE, "239.0.0.0/8", HERE), Accepted(HOME, "239.0.0.0/8")]
        self.core = MsmCore(
            world.host("echo"), world.trust(), seeded(1), Settings(Networks.only("198.51.100.9"), "sd", lines)
        )
        policy = complete_policy(GroupPolicy(lease_s=6))
        self.group = GroupDescription(group_id=GROUP_ID, name="audio", address="239.1.1.1", port=5004, policy=policy)

    def ask(self, verb: str, message: Any, token: object = "csm", now: float = NOW) -> list[Any]:
        who = self.world.host("echo").identity
        return self.core.handle(Requested(verb, who, message, token, bytes(32)), now)

    def prepared(self, authorizer: str = HOME) -> bytes:
        asked = wire.PrepareJoinRequest(group_id=GROUP_ID, authorizer=authorizer, send_only=True)
        (answer,) = self.ask("prepare-join", asked)
        return bytes(answer.message.statement)

    def open(self, user: str = "eve", home: str = HOME, statement: bytes | None = None, **more: Any) -> list[Any]:
        signed = SignedStatement(statement=self.prepared(home) if statement is None else statement)
        asked = wire.OpenSendingRequest(
            group=self.group, authorizer=home, conference_id=CONFERENCE_ID, user_statement=signed, user=user
        )
        return self.ask("open-sending", asked, **more)

    def registering(self) -> Request:
        """As far as the Authorizer."""
        assert self.open() == [OpenSending("example.org", self.group)]
        (request,) = self.core.handle(GroupOpened(GROUP_ID, "/socket"), NOW)
        assert isinstance(request, Request) and request.verb == "register-sender"
        return request

    def answer(self, request: Request, **changes: Any) -> list[Any]:
        """What the Authorizer gives."""
        message: Any = request.message
        token: Any = request.token
        described = ConferenceDescription(authorizer=HOME).SerializeToString()
        association = authorizer_wire.SendingAssociation(
            group=self.group,
            conference_id=CONFERENCE_ID,
            description=self.world.user("alice").sign_statement(CONFERENCE_LABEL, described),
            sender_id=5,
            epoch=EPOCH,
            keymat=bytes(36),
        )
        for name, value in changes.items():
            setattr(association, name, value)
        if request.verb == "register-sender":
            request_hash = self.core.sending_only._asked[GROUP_ID].request_hash
            sealed = seal_sending(message.hpke_suite, message.hpke_public_key, request_hash, association)
            response: Any = authorizer_wire.RegisterSenderResponse(sealed_association=sealed)
        else:
            sealed = seal_sending("x25519", message.hpke_public_key, token.request_hash, association)
            response = authorizer_wire.RenewSenderResponse(sealed_association=sealed)
        return self.core.handle(Answered(request.token, response, self.world.authorizer.identity), NOW)

    def sending(self) -> None:
        """It does."""
        effects = self.answer(self.registering())
        assert [effect for effect in effects if isinstance(effect, Answer)]

    def renewal(self) -> Request:
        """Its next question for a key."""
        at = self.core.wake_at()
        assert at is not None
        while True:
            effects = self.core._woken(at)
            for effect in effects:
                if isinstance(effect, Request):
                    return effect
            later = self.core.wake_at()
            assert later is not None and later > at
            at = later

    @property
    def state(self) -> str:
        return self.core.sending_only.groups[GROUP_ID].state


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


def refusal(effects: list[Any]) -> Refused:
    (refused,) = [effect.refusal for effect in effects if isinstance(effect, Refuse)]
    assert len(refused.sentence) > 20
    return refused


def told(effects: list[Any]) -> list[str]:
    """What the CSM hears of."""
    messages: list[Any] = [effect.message for effect in effects if isinstance(effect, Publish)]
    return [message.change for message in messages]


def test_it_registers_once_the_local_socket_is_there(desk: Desk):
    request = desk.registering()
    assert desk.state == "registering"
    (answer,) = [effect for effect in desk.answer(request) if isinstance(effect, Answer)]
    message: Any = answer.message
    assert (answer.token, message.socket_path, message.sender_id) == ("csm", "/socket", 5)
    assert desk.state == "sending-only"


def test_a_statement_that_was_not_prepared_here_or_too_long_ago_is_refused(desk: Desk):
    assert refusal(desk.open(statement=b"another's")).rule == "prepared"
    old = desk.prepared()
    assert refusal(desk.open(statement=old, now=NOW + STATEMENT_FOR)).rule == "prepared"
    once = desk.prepared()
    assert desk.open(statement=once) == [OpenSending("example.org", desk.group)]
    assert refusal(desk.open(statement=once)).rule == "prepared"


def test_so_many_are_prepared_at_once_and_no_more(desk: Desk):
    for _ in range(PREPARED_AT_ONCE):
        desk.prepared()
    asked = wire.PrepareJoinRequest(group_id=GROUP_ID, authorizer=HOME)
    assert refusal(desk.ask("prepare-join", asked)).rule == "prepared-joins"
    assert isinstance(desk.ask("prepare-join", asked, now=NOW + STATEMENT_FOR)[0], Answer)


def test_groups_of_a_peers_conference_are_joined_or_not_sent_to(desk: Desk):
    assert refusal(desk.open(home=ELSEWHERE)).rule == "home-only"


def test_an_authorizer_that_the_host_does_not_accept_is_refused(desk: Desk):
    assert refusal(desk.open(home="spiffe://example.org/authorizer/other")).rule == "gpad"


def test_one_at_a_time_and_for_one_user(desk: Desk):
    request = desk.registering()
    assert refusal(desk.open()).rule == "one-at-a-time"
    desk.answer(request)
    assert refusal(desk.open("mallory")).rule == "one-user-a-host"


def test_a_socket_that_can_not_be_had_is_told(desk: Desk):
    desk.open()
    effects = desk.core.handle(GroupFailed(GROUP_ID, "the port is taken by another program"), NOW)
    assert "port is taken" in refusal(effects).sentence
    assert CloseGroup(GROUP_ID) in effects and not desk.core.sending_only.groups


def test_what_the_authorizer_refuses_is_the_answer_and_nothing_stays_open(desk: Desk):
    request = desk.registering()
    refused = Refused(
        "not-allowed", "closed-group-hears-acceptable-senders-only", "to a closed group only members send"
    )
    effects = desk.core.handle(Failed(request.token, refused), NOW)
    assert refusal(effects) is refused
    assert CloseGroup(GROUP_ID) in effects and not desk.core.sending_only.groups


@pytest.mark.parametrize("changes", [{"conference_id": bytes(16)}, {"keymat": b"short"}], ids=str)
def test_an_answer_that_is_not_what_was_asked_for_is_refused(desk: Desk, changes: dict[str, Any]):
    effects = desk.answer(desk.registering(), **changes)
    assert refusal(effects).code == "association"
    assert CloseGroup(GROUP_ID) in effects


def test_an_answer_of_a_suite_that_this_host_does_not_know_is_refused(desk: Desk):
    request = desk.registering()
    desk.group.policy.suite = "rot13"
    assert refusal(desk.answer(request)).code == "association"


def test_an_answer_that_is_sealed_to_another_is_refused(desk: Desk):
    request = desk.registering()
    response = authorizer_wire.RegisterSenderResponse(sealed_association=bytes(100))
    effects = desk.core.handle(Answered(request.token, response, desk.world.authorizer.identity), NOW)
    assert refusal(effects).rule == "sealing"


def test_a_registration_that_fails_later_leaves_what_there_was(desk: Desk):
    desk.sending()
    (request,) = desk.open(token="again")
    effects = desk.core.handle(Failed(request.token, Refused("no-answer", "deadline", "nobody answered in time")), NOW)
    assert refusal(effects).code == "no-answer"
    assert not [effect for effect in effects if isinstance(effect, CloseGroup)] and desk.state == "sending-only"


def test_it_ends_while_it_begins(desk: Desk):
    request = desk.registering()
    effects = desk.ask("end-sending", wire.EndSendingRequest(group_id=GROUP_ID), "end")
    assert refusal(effects).rule == "ended"
    assert [effect.verb for effect in effects if isinstance(effect, Request)] == ["leave"]
    assert desk.core.handle(Failed(request.token, Refused("x", "y", "too late to matter to anybody")), NOW) == []
    assert desk.core.handle(GroupOpened(GROUP_ID, "/socket"), NOW) == [CloseGroup(GROUP_ID)]


def test_what_becomes_of_a_question_for_a_key(desk: Desk):
    desk.sending()
    question = desk.renewal()
    effects = desk.answer(question, epoch=EPOCH + 5)
    assert desk.core.sending_only.groups[GROUP_ID].epoch == EPOCH + 5 and effects
    (counted,) = desk.answer(question, epoch=EPOCH + 9, sender_id=6)
    assert counted == Count("rejected.sending-key.association")
    response = authorizer_wire.RenewSenderResponse(sealed_association=bytes(100))
    effects = desk.core.handle(Answered(question.token, response, desk.world.authorizer.identity), NOW)
    assert Count("rejected.sending-key.sealing") in effects


@pytest.mark.parametrize(
    ("code", "state"), [("no-answer", "sending-only"), ("unknown-group", "stale"), ("not-allowed", "stale")]
)
def test_a_question_that_is_refused_may_be_the_end_or_asked_again(desk: Desk, code: str, state: str):
    desk.sending()
    desk.core.handle(Failed(desk.renewal().token, Refused(code, "rule", "a sentence for people, and long")), NOW)
    assert desk.state == state


def test_register_again_makes_the_csm_ask_the_user(desk: Desk):
    desk.sending()
    response = authorizer_wire.RenewSenderResponse(register_again=True)
    effects = desk.core.handle(Answered(desk.renewal().token, response, desk.world.authorizer.identity), NOW)
    assert told(effects) == ["statement-needed"] and desk.state == "stale"


def test_an_answer_about_an_earlier_sender_id_is_too_late(desk: Desk):
    desk.sending()
    question = desk.renewal()
    desk.core.sending_only.groups[GROUP_ID].sender_id = 6
    response = authorizer_wire.RenewSenderResponse(register_again=True)
    assert desk.core.handle(Answered(question.token, response, desk.world.authorizer.identity), NOW) == []
    assert desk.state == "sending-only"


def test_rubbish_on_the_bus_is_counted(desk: Desk):
    desk.sending()
    assert desk.core.handle(GroupMessage(GROUP_ID, b"rubbish"), NOW) == [Count("rejected.update.malformed")]


def test_sequence_numbers_that_run_out_are_told(desk: Desk):
    desk.sending()
    effects = desk.core.handle(SequenceLow(GROUP_ID), NOW)
    assert told(effects) == ["statement-needed"]
    assert desk.state == "sending-only"  # there are some left
