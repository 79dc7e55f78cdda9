"""Whatever a participant, an application or a member's MSM says: nothing crashes a core, and the conference goes on.

A crash is an exception that leaves the core: in a service it ends the process.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mcsa.endpoint import Published, Request
from mcsa.errors import Refused
from mcsa.subjects import APPLICATION_METHODS, AUTHORIZER, MSM, SERVICES
from mcsa.v1.conference_pb2 import ControlMessage
from mcsa.v1.msm_pb2 import GroupChanged
from tests.simulation.conference import ConferenceDomain
from tests.simulation.domain import Domain
from tests.simulation.test_conferences import convened, run_until_keyed

ROUNDS = 60  # of each kind of message


class Absurd:
    """Fills messages with what fits their types and little else; with some things that are known, so that the first
    check isn't always the last."""

    def __init__(self, seed: int, known: list[Any]) -> None:
        self._random = random.Random(seed)
        self._known = known

    def fill(self, message: Message, depth: int = 0) -> None:
        for field in message.DESCRIPTOR.fields:
            if field.containing_oneof is not None or self._random.random() < 0.3 or depth > 3:
                continue
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                continue
            if field.is_repeated:
                self._fill_list(message, field, depth)
            elif field.message_type is not None:
                self.fill(getattr(message, field.name), depth + 1)
            else:
                setattr(message, field.name, self._value(field))

    def _fill_list(self, message: Message, field: Any, depth: int) -> None:
        values = getattr(message, field.name)
        for _ in range(self._random.choice((0, 1, 2, 5))):
            if field.message_type is not None:
                self.fill(values.add(), depth + 1)
            else:
                values.append(self._value(field))

    def _value(self, field: Any) -> Any:
        choose = self._random.choice
        if field.type == field.TYPE_BYTES:
            names: list[Any] = [value for value in self._known if isinstance(value, bytes)]
            return choose([*names, b"", b"\0", b"\xff" * 16, self._random.randbytes(32), self._random.randbytes(64)])
        if field.type == field.TYPE_STRING:
            names = [value for value in self._known if isinstance(value, str)]
            return choose([*names, "", "x", "spiffe://", "bd", "rot13", "../../etc/passwd", "\N{SNOWMAN}" * 50])
        if field.type == field.TYPE_BOOL:
            return choose([True, False])
        if field.type == field.TYPE_ENUM:
            return choose([0, 1, 2, 77])
        top = 2**64 - 1 if field.type in (field.TYPE_UINT64, field.TYPE_FIXED64) else 2**32 - 1
        return choose([0, 1, 2, 1_800_000_001, top if top < 2**63 or field.type == field.TYPE_UINT64 else 2**63 - 1])


@pytest.fixture
def domain() -> ConferenceDomain:
    return ConferenceDomain(hosts=("alpha", "beta", "gamma"))


@pytest.mark.parametrize("speaker", ["alice", "bob"])
def test_no_control_message_crashes_anybody(domain: ConferenceDomain, speaker: str):
    applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    by_name = {str(one.user.id).rsplit("/", 1)[1]: one for one in applications}
    mouth = by_name[speaker]
    keying = mouth.participant.keying
    known = [mouth.conference_id, mouth.participant.process_id, mouth.participant.terms.hash, *keying.participants]
    kinds = [field.name for field in ControlMessage.DESCRIPTOR.oneofs_by_name["body"].fields]
    harmful = {"closing", "status", *(("ejection",) if speaker == "alice" else ())}  # do what they say, or end a stream
    for number in range(ROUNDS):
        for kind in kinds:
            if kind in harmful:
                continue
            message = ControlMessage()
            getattr(message, kind).SetInParent()
            Absurd(number * 100 + len(kind), known).fill(getattr(message, kind))
            mouth.say_control(message)
        domain.network.run_for(0.2)
    domain.network.run_for(30.0)
    carol = by_name["carol"]
    assert carol.participant.view().state in ("active", "rekeying", "keying", "gathering")
    rejected = sum(n for name, n in carol.node.endpoint.counters.items() if name.startswith(("rejected", "late")))
    assert rejected > ROUNDS


@pytest.mark.parametrize("verb", sorted(APPLICATION_METHODS))
def test_no_request_of_an_application_crashes_its_csm(domain: ConferenceDomain, verb: str):
    applications = convened(domain, "bob")
    run_until_keyed(domain, applications)
    alice = applications[0]
    known = [alice.conference_id, str(alice.user.id), "alice"]
    for number in range(ROUNDS // 3):
        request: Any = APPLICATION_METHODS[verb].request()
        Absurd(number, known).fill(request)
        if verb in ("convene", "join", "send-only"):
            request.user.path = "alice"  # the shell refuses files that can't be read
        if verb == "leave":
            request.conference_id = b"x" * 16
        asked = alice.begin(verb, request)
        try:
            alice.answer_to(asked, 20.0)
        except Refused as refused:
            assert refused.sentence
        except KeyError:
            raise AssertionError(f"{verb} was never answered: {request}") from None


def test_no_news_of_the_msm_crashes_its_csm(domain: ConferenceDomain):
    applications = convened(domain, "bob", "carol")
    run_until_keyed(domain, applications)
    carol = applications[2]
    known = [group.group_id for group in carol.participant.terms.groups]
    for number in range(ROUNDS * 3):
        changed = GroupChanged()
        Absurd(number, [*known, "rekeyed", "statement-needed", "roster"]).fill(changed)
        carol.node.event(Published("x", domain.world.host("gamma").identity, changed))
        domain.network.run_for(0.05)
    domain.network.run_for(20.0)
    applications[0].say(b"still here")
    domain.network.run_for(2.0)
    assert ("alice", b"still here") in carol.heard


def test_messages_are_what_the_contract_says():
    """The generator reaches every kind of message."""
    for field in ControlMessage.DESCRIPTOR.oneofs_by_name["body"].fields:
        assert field.message_type is not None
        message = GetMessageClass(field.message_type)()
        for seed in range(20):
            Absurd(seed, []).fill(message)
        assert message.ByteSize() >= 0


@pytest.mark.parametrize(
    ("service", "verb"),
    [(service, verb) for service in (AUTHORIZER, MSM) for verb in sorted(SERVICES[service])],
    ids=lambda value: value,
)
def test_no_request_of_a_host_crashes_a_service(service: str, verb: str):
    domain = Domain(hosts=("alpha", "beta"))
    created = domain.create()
    for host, user in (("alpha", "alice"), ("beta", "bob")):
        assert domain.csm[host].join(created.groups[0], created.conference_id, user).refused is None
    beta = domain.csm["beta"]
    known = [
        created.conference_id,
        created.groups[0].group_id,
        str(domain.world.authorizer.id),
        created.groups[0].address,
    ]
    recipient = str(domain.world.authorizer.id if service == AUTHORIZER else domain.world.host("beta").id)
    for number in range(ROUNDS):
        request = SERVICES[service][verb].request()
        Absurd(number, known).fill(request)
        token = ("fuzz", number)
        beta.event(Request(service, verb, request, recipient, token, within=5.0))
        assert domain.network.run_until(partial(beta.core.outcomes.__contains__, token), 7.0), request
        outcome = beta.core.outcomes[token]
        assert outcome.message is not None or (outcome.refused is not None and len(outcome.refused.sentence) > 10)
    epoch = domain.authorizer.core.groups[created.groups[0].group_id].epoch
    domain.network.run_for(3.0)
    alpha = domain.msm["alpha"].core.memberships[created.groups[0].group_id]
    assert alpha.state == "member" and alpha.epoch >= epoch
