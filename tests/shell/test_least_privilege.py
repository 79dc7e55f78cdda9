"""What the broker refuses, tried at a real one."""

from __future__ import annotations

import asyncio
import os

import nats.errors
import pytest
from nats.aio.client import Client

from mcsa.shell.bus import BusUnavailable, Headers, Reply
from mcsa.shell.nkeys import NkeySeed
from tests.shell.conftest import Domain, until

ASKED = "mcsa.v1.authorizer.a.register"


async def ignore(_subject: str, _data: bytes, _headers: Headers) -> None:
    return


@pytest.mark.parametrize(
    ("who", "subject", "rule"),
    [
        ("msm-b", ASKED, "another host's name"),
        ("csm-a", ASKED, "a floor skipped"),
        ("csm-a", "mcsa.v1.sd.a.announce", "a floor skipped"),
        ("csm-a", "mcsa.v1.msm.b.join-group", "another host's MSM"),
        ("csm-a", "mcsa.v1.csm.b.group-changed", "another host's CSM"),
        ("msm-a", "mcsa.v1.csm.b.group-changed", "another host's CSM"),
        ("msm-a", "mcsa.v1.group.main.00", "the Authorizer's part"),
        ("msm-a", "mcsa.v1.distributor.b.00", "another host's name"),
        ("csm-a", "mcsa.v1.distributor.a.00", "a floor skipped"),
        ("authorizer-main", "mcsa.v1.distributor.a.00", "a request that goes down"),
        ("sd-main", "mcsa.v1.group.main.00", "the Authorizer's part"),
        ("authorizer-main", "mcsa.v1.group.other.00", "another Authorizer's part"),
        ("authorizer-main", "mcsa.v1.msm.a.join-group", "a request that goes down"),
        ("msm-a", "$SRV.PING", "the operator's part"),
        ("operator", "mcsa.v1.msm.a.leave-group", "not the operator's part"),
        ("msm-a", "$JS.API.STREAM.CREATE.X", "the store"),
        ("msm-a", "$SYS.REQ.SERVER.PING", "the system account"),
    ],
)
async def test_publishing_out_of_ones_part_is_refused_and_said_at_once(
    domain: Domain, who: str, subject: str, rule: str
) -> None:
    bus = await domain.open(who)
    with pytest.raises(BusUnavailable) as refused:
        await bus.request(subject, b"", timeout=60)
    assert refused.value.rule == "denied", rule
    assert who in refused.value.sentence
    assert bus.counters["denied-publish"] == 1


@pytest.mark.parametrize(
    ("who", "subject"),
    [
        ("msm-b", "_INBOX_msm-a.>"),
        ("csm-a", "_INBOX_msm-a.>"),
        ("msm-b", "mcsa.v1.msm.a.*"),
        ("csm-a", "mcsa.v1.csm.b.*"),
        ("csm-a", "mcsa.v1.group.*.*"),
        ("sd-main", "mcsa.v1.authorizer.*.*"),
        ("msm-a", "mcsa.v1.authorizer.*.*"),
        ("msm-a", "mcsa.v1.distributor.*.00"),
        ("authorizer-main", "mcsa.v1.distributor.*.00"),
        ("msm-a", ">"),
        ("msm-a", "$SRV.PING.mcsa-authorizer"),
        ("operator", "mcsa.v1.>"),
    ],
)
async def test_listening_out_of_ones_part_is_refused(domain: Domain, who: str, subject: str) -> None:
    bus = await domain.open(who)
    with pytest.raises(BusUnavailable) as refused:
        await bus.subscribe(subject, ignore)
    assert refused.value.rule == "denied"
    assert bus.counters["denied-subscription"] == 1
    assert bus.ready


@pytest.mark.parametrize("with_nkey", [False, True])
async def test_who_is_not_known_is_not_let_in(domain: Domain, with_nkey: bool) -> None:
    client = Client()
    nkey = {"nkeys_seed_str": NkeySeed.draw(os.urandom).reveal().decode()} if with_nkey else {}

    async def ignore_error(_error: Exception) -> None:
        return

    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await client.connect(domain.broker.url, allow_reconnect=False, error_cb=ignore_error, **nkey)  # type: ignore[arg-type]
    await client.close()


async def test_nobody_writes_to_an_inbox_unasked(domain: Domain) -> None:
    asker, other = await domain.open("msm-a"), await domain.open("msm-b")
    with asker._requests.waiting(ASKED) as (inbox, answer):
        await other.publish(inbox, b"forged")
        await until(lambda: other.counters["denied-publish"])
        assert not answer.done()


@pytest.mark.parametrize("who", ["csm-a", "sd-main", "authorizer-main", "operator"])
async def test_only_msms_share_what_distributors_are_asked(domain: Domain, who: str) -> None:
    bus = await domain.open(who)

    async def ignore_request(_subject: str, _data: bytes, _headers: Headers, _reply: Reply) -> None:
        return

    with pytest.raises(BusUnavailable) as refused:
        await bus.share("mcsa.v1.distributor.*.00", ignore_request)
    assert refused.value.rule == "denied"


async def test_who_was_asked_answers_once(domain: Domain) -> None:
    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")

    async def twice(_subject: str, _data: bytes, _headers: Headers, reply) -> None:
        await reply(b"first")
        await reply(b"second")

    await authorizer.serve("mcsa-authorizer", "1.0.0", {"register": "mcsa.v1.authorizer.*.register"}, twice)
    assert await msm.request(ASKED, b"", timeout=10) == b"first"
    await until(lambda: authorizer.counters["denied-publish"] == 1)


async def test_an_answer_goes_to_inboxes_only(domain: Domain) -> None:
    """An asker that names another's subject as its inbox does not make a service speak there."""
    msm, csm, auditor = await domain.open("msm-a"), await domain.open("csm-a"), await domain.open("auditor")
    heard: list[str] = []

    def note(subject: str, _data: bytes, _headers: Headers) -> None:
        heard.append(subject)

    async def answer(_subject: str, _data: bytes, _headers: Headers, reply) -> None:
        await reply(b"an answer")

    await auditor.subscribe("mcsa.v1.sd.>", note)
    await msm.serve("mcsa-msm", "1.0.0", {"join-group": "mcsa.v1.msm.a.join-group"}, answer)
    await csm._link.send("mcsa.v1.msm.a.join-group", b"", reply="mcsa.v1.sd.a.withdraw")
    await until(lambda: msm.counters["reply-elsewhere"] == 1)
    assert await csm.request("mcsa.v1.msm.a.join-group", b"", timeout=10) == b"an answer"
    assert heard == []


async def test_what_is_allowed_works_and_the_wiretap_hears_all_of_it(domain: Domain) -> None:
    names = ("authorizer-main", "sd-main", "msm-a", "csm-a", "auditor")
    authorizer, directory, msm, csm, auditor = await asyncio.gather(*(domain.open(name) for name in names))
    heard: list[tuple[str, bytes]] = []
    arrived: list[str] = []

    def wiretap(subject: str, data: bytes, _headers: Headers) -> None:
        heard.append((subject, data))

    def note(subject: str, _data: bytes, _headers: Headers) -> None:
        arrived.append(subject)

    async def echo(subject: str, data: bytes, _headers: Headers, reply) -> None:
        await reply(subject.encode() + b" " + data)

    await auditor.subscribe(">", wiretap)
    await authorizer.serve("mcsa-authorizer", "1.0.0", {"register": "mcsa.v1.authorizer.*.register"}, echo)
    await directory.serve("mcsa-sd", "1.0.0", {"announce": "mcsa.v1.sd.*.announce"}, echo)
    await msm.serve("mcsa-msm", "1.0.0", {"join-group": "mcsa.v1.msm.a.join-group"}, echo)
    await msm.subscribe("mcsa.v1.group.*.*", note)
    await csm.subscribe("mcsa.v1.csm.a.*", note)

    assert await csm.request("mcsa.v1.msm.a.join-group", b"1", timeout=10) == b"mcsa.v1.msm.a.join-group 1"
    assert await msm.request(ASKED, b"2", timeout=10) == ASKED.encode() + b" 2"
    assert await msm.request("mcsa.v1.sd.a.announce", b"3", timeout=10) == b"mcsa.v1.sd.a.announce 3"
    await authorizer.publish("mcsa.v1.group.main.00ff", b"4")
    await msm.publish("mcsa.v1.csm.a.group-changed", b"5")
    await until(lambda: len(arrived) == 2)
    assert set(arrived) == {"mcsa.v1.group.main.00ff", "mcsa.v1.csm.a.group-changed"}
    await until(lambda: {b"1", b"2", b"3", b"4", b"5"} <= {data for _, data in heard})
    assert sum(subject.startswith("_INBOX_") for subject, _ in heard) == 3


async def test_a_service_is_found_under_its_own_name_only(domain: Domain) -> None:
    async def ignore_request(_subject: str, _data: bytes, _headers: Headers, _reply: Reply) -> None:
        return

    directory = await domain.open("sd-main")
    with pytest.raises(BusUnavailable) as refused:
        await directory.serve("mcsa-authorizer", "1.0.0", {"announce": "mcsa.v1.sd.*.announce"}, ignore_request)
    assert refused.value.rule == "denied"
    assert "$srv.ping.mcsa-authorizer" in refused.value.sentence
