"""What a distributor refuses to a newcomer; the newcomer goes to the Authorizer then."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.distribution import open_right
from mcsa.envelope import Expected, parse_envelope, payload_hash, sign_envelope, type_name
from mcsa.errors import Refused
from mcsa.gkm import scheme_named
from mcsa.identity import Credentials
from mcsa.registration import open_association, sign_user_statement
from mcsa.sealing import SealingKey
from mcsa.subjects import distributor_subject, subject
from mcsa.updates import group_recipient
from mcsa.v1.authorizer_pb2 import RegisterRequest, RegisterResponse, RenewRequest, UserStatement
from mcsa.v1.envelope_pb2 import Refusal
from tests.simulation.nodes import MsmNode
from tests.simulation.test_distributors import Distributed
from tests.world import World, seeded


class Asked:
    """A group with one distributor, asked by hosts that say what the test says."""

    def __init__(self) -> None:
        self.domain = Distributed()
        self.domain.join("alpha")
        self.alpha: MsmNode = self.domain.msm["alpha"]
        self.group_id = self.domain.group_id
        self.world = self.domain.world
        self.joining = scheme_named("cbt").begin(seeded(9))
        self.key = SealingKey.generate("x25519")
        self._asked = 0

    def request(self, host: str = "beta", user: str = "bob", **changes: Any) -> RegisterRequest:
        statement = UserStatement(
            host=str(self.world.host(host).id),
            hpke_public_key=self.key.public,
            group_id=self.group_id,
            authorizer=str(self.world.authorizer.id),
            nonce=bytes(16),
            expires_ms=round((self.domain.network.now + 30) * 1000),
        )
        values: dict[str, Any] = {
            "group_id": self.group_id,
            "hpke_public_key": self.key.public,
            "hpke_suite": "x25519",
            "user_statement": sign_user_statement(self.world.user(user), statement.SerializeToString()),
            "sender": True,
            "address": "198.51.100.99",
            "gkm_contribution": self.joining.contribution,
            "asked_ms": 1,
        }
        return RegisterRequest(**{**values, **changes})

    def ask(
        self,
        request: Any,
        signer: Credentials | None = None,
        recipient: str | None = None,
        subject: str | None = None,
        request_id: bytes = b"",
    ) -> Any:
        """The answer; None where there is none."""
        who, now = signer or self.world.host("beta"), self.domain.network.now
        self._asked += 1
        id_ = request_id or self._asked.to_bytes(16, "big")
        raw = sign_envelope(who, request, recipient or group_recipient(self.group_id), id_, now + 1).raw
        answers: list[bytes] = []
        to = subject or distributor_subject(who.id.token, self.group_id)
        effects = self.alpha.endpoint.request_arrived(to, raw, answers.append, now)
        self.alpha.perform(effects)
        if not answers:
            return None
        types = {type_name(RegisterResponse): RegisterResponse, type_name(Refusal): Refusal}
        expected = Expected([str(who.id)], types, ["host"], payload_hash(request))
        message: Any = parse_envelope(answers[0]).verify(self.world.trust(), expected, now).message
        if isinstance(message, Refusal):
            raise Refused(message.code, message.rule, message.sentence)
        return message

    def rejected(self, cause: str) -> int:
        return self.alpha.endpoint.counters[f"rejected.{cause}"]


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_a_newcomer_gets_the_groups_present_keys_a_sender_id_and_the_right_to_check_them_by(asked: Asked):
    request = asked.request()
    response = asked.ask(request)
    gsa = open_association(asked.key, payload_hash(request), response.sealed_gsa)
    now, alpha = asked.domain.network.now, str(asked.world.host("alpha").id)
    right = open_right(response.right, str(asked.world.authorizer.id), asked.group_id, alpha, asked.world.trust(), now)
    group = asked.domain.group
    assert asked.joining.finish(gsa.gkm_welcome).key == group.key
    assert (gsa.epoch, gsa.update_number, gsa.sender_id) == (group.epoch, group.number, right.first_sender_id)
    assert [entry.host for entry in gsa.roster] == [str(asked.world.authorizer.id), alpha]  # as the Authorizer told it
    assert not gsa.HasField("distribution_right")  # that is the Authorizer's to give
    asked.domain.network.run_for(0.5)
    assert str(asked.world.host("beta").id) in group.members


@pytest.mark.parametrize(
    ("changes", "code", "rule"),
    [
        ({"user": "mallory"}, "not-allowed", "closed-group-admits-acceptable-users-only"),
        ({"user_statement": None}, "not-allowed", "closed-group-needs-a-user"),
        ({"host": "gamma"}, "user-statement", "user-statement.host"),
        ({"group_id": bytes(16)}, "not-here", "distributor"),
        ({"sender": False}, "not-here", "distributor"),
        ({"hpke_suite": "x-wing"}, "policy", "group-policy.hpke"),
        ({"address": "nowhere"}, "address", "source-address"),
        ({"gkm_contribution": bytes(32)}, "key-material", "contribution"),
        ({"gkm_contribution": b"short"}, "key-material", "contribution"),
    ],
)
def test_what_the_authorizer_would_not_take_a_distributor_refuses(
    asked: Asked, changes: dict[str, Any], code: str, rule: str
):
    post = asked.alpha.core._distributing._posts[asked.group_id]
    before = post.next_sender_id
    with pytest.raises(Refused) as refused:
        asked.ask(asked.request(**changes))
    assert (refused.value.code, refused.value.rule) == (code, rule)
    assert post.next_sender_id == before
    assert not asked.alpha.core._distributing.reports.any_of(asked.group_id)


def test_a_key_that_nothing_can_be_sealed_to_is_refused(asked: Asked):
    statement = asked.request()
    asked.key = SealingKey("x25519", asked.key.private, b"short")
    with pytest.raises(Refused) as refused:
        asked.ask(asked.request())
    assert (refused.value.code, refused.value.rule) == ("key-material", "suite")
    assert statement.hpke_public_key != b"short"


@pytest.mark.parametrize("who", ["departed", "host"])
def test_who_was_thrown_out_as_far_as_heard_is_refused(asked: Asked, who: str):
    gone = str(asked.world.user("bob").id) if who == "departed" else str(asked.world.host("beta").id)
    asked.domain.membership("alpha").departed.add(gone)
    with pytest.raises(Refused) as refused:
        asked.ask(asked.request())
    assert refused.value.rule == "departed"


def test_a_distributor_serves_not_itself(asked: Asked):
    with pytest.raises(Refused) as refused:
        asked.ask(asked.request("alpha"), asked.world.host("alpha"))
    assert refused.value.code == "not-here"


@pytest.mark.parametrize("state", ["silenced", "stale", "ejected"])
def test_a_member_that_does_not_follow_its_group_serves_no_joins(asked: Asked, state: str):
    asked.domain.membership("alpha").state = state
    with pytest.raises(Refused) as refused:
        asked.ask(asked.request())
    assert refused.value.code == "not-here"


def test_a_right_that_has_expired_serves_no_joins(asked: Asked):
    post = asked.alpha.core._distributing._posts[asked.group_id]
    post.right.expires_ms = int(asked.domain.network.now * 1000)
    with pytest.raises(Refused) as refused:
        asked.ask(asked.request())
    assert refused.value.code == "not-here"


def test_what_is_no_hosts_request_to_the_group_vanishes(asked: Asked):
    foreign = World().host("beta")
    mine = str(asked.world.host("alpha").id)
    assert asked.ask(asked.request(), foreign) is None and asked.rejected("certificate") == 1
    assert asked.ask(asked.request(), asked.world.user("bob")) is None and asked.rejected("kind") == 1
    assert asked.ask(asked.request(), recipient=mine) is None and asked.rejected("recipient") == 1
    assert asked.ask(RenewRequest(group_id=asked.group_id)) is None and asked.rejected("message-type") == 1
    other = distributor_subject("gamma", asked.group_id)
    assert asked.ask(asked.request(), subject=other) is None and asked.rejected("subject") == 1
    assert asked.ask(asked.request(), subject=subject("distributor", "beta", "register")) is None
    assert asked.rejected("subject") == 2
    verb = subject("msm", "beta", "join-group")  # and what is asked of a distributor is not asked of an MSM
    assert asked.ask(asked.request(), subject=verb) is None and asked.rejected("message-type") == 2


def test_only_an_msm_takes_what_is_asked_of_distributors(asked: Asked):
    authorizer = asked.domain.authorizer.endpoint
    raw = sign_envelope(
        asked.world.host("beta"),
        asked.request(),
        group_recipient(asked.group_id),
        bytes(16),
        asked.domain.network.now + 1,
    ).raw
    to = distributor_subject("beta", asked.group_id)
    assert authorizer.request_arrived(to, raw, None, asked.domain.network.now) == []
    assert authorizer.counters["rejected.subject"] == 1


def test_a_request_that_comes_twice_gets_the_first_answer_while_it_would_be_given_again(asked: Asked):
    request = asked.request()
    first = asked.ask(request, request_id=b"1" * 16)
    post = asked.alpha.core._distributing._posts[asked.group_id]
    given = post.next_sender_id
    assert asked.ask(request, request_id=b"1" * 16) == first
    assert post.next_sender_id == given
    asked.domain.membership("alpha").departed.add(str(asked.world.user("bob").id))
    with pytest.raises(Refused) as refused:
        asked.ask(request, request_id=b"1" * 16)
    assert refused.value.rule == "departed"


def test_two_that_ask_get_two_sender_ids(asked: Asked):
    given = set()
    for host, user in (("beta", "bob"), ("gamma", "carol"), ("beta", "bob")):
        request = asked.request(host, user)
        response = asked.ask(request, asked.world.host(host))
        given.add(open_association(asked.key, payload_hash(request), response.sealed_gsa).sender_id)
    assert len(given) == 3
