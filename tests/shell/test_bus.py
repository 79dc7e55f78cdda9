"""The bus against a real nats-server: a test for each pitfall, numbered as in `mcsa.shell.bus`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from mcsa.shell.bus import BusUnavailable, Headers, OnRequest, Reply
from mcsa.shell.nkeys import NkeySeed
from tests.shell.conftest import QUICK, Domain, until

ASKED = "mcsa.v1.authorizer.a.register"
VERBS = {"register": "mcsa.v1.authorizer.*.register"}
GROUP = "mcsa.v1.group.main.00"


async def echo(_subject: str, data: bytes, _headers: Headers, reply: Reply) -> None:
    await reply(data)


async def test_1_who_was_thrown_out_comes_back_when_let_in_again(domain: Domain) -> None:
    """A fatal error of the server: nats-py's own client would be closed for ever."""
    authorizer = await domain.open("authorizer-main")
    ready: list[bool] = []
    msm = await domain.open("msm-a", on_ready=lambda: ready.append(True))
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, echo)
    domain.broker.reload(domain.grants("msm-a"))
    await until(lambda: not msm.ready)
    await until(lambda: msm.counters["connect-failed"] >= 3)
    with pytest.raises(BusUnavailable) as refused:
        await msm.request(ASKED, b"", timeout=60)
    assert refused.value.rule == "down"
    assert "authorization violation" in refused.value.sentence.lower()
    domain.broker.reload(domain.grants())
    await until(lambda: msm.ready)
    assert await msm.request(ASKED, b"back", timeout=10) == b"back"
    assert len(ready) == 2


async def test_2_it_never_gives_up_and_everything_is_subscribed_again(domain: Domain) -> None:
    heard: list[bytes] = []
    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, echo)
    await msm.subscribe("mcsa.v1.group.*.*", lambda _subject, data, _headers: heard.append(data))
    domain.broker.kill()
    await until(lambda: msm.counters["connect-failed"] >= 10 and authorizer.counters["connect-failed"] >= 10)
    domain.broker.start()
    await until(lambda: msm.ready and authorizer.ready)
    await authorizer.publish(GROUP, b"update")
    await until(lambda: heard == [b"update"])
    assert await msm.request(ASKED, b"again", timeout=10) == b"again"


async def test_2_who_has_a_key_that_the_broker_does_not_know_is_told_so(domain: Domain) -> None:
    domain.seeds["msm-a"] = NkeySeed.draw(os.urandom)  # after the broker was told of another
    with pytest.raises(BusUnavailable, match=r"Authorization.*nkey"):
        await domain.bus("msm-a").start(1.0)


async def test_3_what_was_asked_while_the_broker_was_down_is_not_delivered_later(domain: Domain) -> None:
    seen: list[bytes] = []

    async def note(_subject: str, data: bytes, _headers: Headers, reply: Reply) -> None:
        seen.append(data)
        await reply(b"")

    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, note)
    domain.broker.stop()
    await until(lambda: not msm.ready)
    for attempt in range(3):
        with pytest.raises(BusUnavailable) as refused:
            await msm.request(ASKED, b"too late %d" % attempt, timeout=60)
        assert refused.value.rule == "down"
    domain.broker.start()
    await until(lambda: msm.ready and authorizer.ready)
    await msm.request(ASKED, b"in time", timeout=10)
    assert seen == [b"in time"]


async def test_3_a_request_that_waits_when_the_connection_is_lost_fails_at_once(domain: Domain) -> None:
    arrived = asyncio.Event()

    async def never(_subject: str, _data: bytes, _headers: Headers, _reply: Reply) -> None:
        arrived.set()

    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, never)
    asking = asyncio.create_task(msm.request(ASKED, b"", timeout=60))
    await arrived.wait()
    domain.broker.kill()
    with pytest.raises(BusUnavailable) as refused:
        await asking
    assert refused.value.rule == "lost"


async def stop(process_id: int) -> None:
    """SIGSTOP, and until it stands: a thread that was running may have answered in between."""
    os.kill(process_id, signal.SIGSTOP)
    threads = Path(f"/proc/{process_id}/task")
    await until(lambda: all(") T " in (thread / "stat").read_text() for thread in threads.iterdir()))


async def test_4_and_5_a_broker_that_is_stopped_is_noticed_and_memory_stays_bounded(domain: Domain) -> None:
    """It neither reads nor closes. nats-py would wait in `drain` without end."""
    authorizer = await domain.open("authorizer-main", replace(QUICK, ping_every=1.0))
    msm = await domain.open("msm-a")
    await stop(domain.broker.process_id)
    try:
        with pytest.raises(BusUnavailable) as refused:
            for _ in range(100):
                await authorizer.publish(GROUP, bytes(500_000))
        assert refused.value.rule == "backlog"
        await until(lambda: not authorizer.ready and not msm.ready)
        assert msm.counters["connection-lost"] == 1
    finally:
        os.kill(domain.broker.process_id, signal.SIGCONT)
    await until(lambda: authorizer.ready and msm.ready)


async def test_5_a_stopped_broker_answers_no_request_and_none_waits_longer_than_it_said(domain: Domain) -> None:
    msm = await domain.open("msm-a", replace(QUICK, ping_every=60.0))
    await stop(domain.broker.process_id)
    try:
        with pytest.raises(BusUnavailable) as refused:
            await msm.request(ASKED, b"", timeout=0.2)
        assert refused.value.rule == "timeout"
        assert msm.counters["timeout"] == 1
    finally:
        os.kill(domain.broker.process_id, signal.SIGCONT)


async def test_6_requests_are_handled_together(domain: Domain) -> None:
    """Five that each wait for the other four: one after another they'd wait for ever."""
    all_there = asyncio.Barrier(5)

    async def wait_for_the_others(_subject: str, data: bytes, _headers: Headers, reply: Reply) -> None:
        await all_there.wait()
        await reply(data)

    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, wait_for_the_others)
    answers = await asyncio.gather(*(msm.request(ASKED, b"%d" % number, timeout=20) for number in range(5)))
    assert answers == [b"0", b"1", b"2", b"3", b"4"]


async def test_6_no_more_at_once_than_was_said(domain: Domain) -> None:
    running, most, go_on = 0, 0, asyncio.Event()

    async def hold(_subject: str, _data: bytes, _headers: Headers, reply: Reply) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1
        await reply(b"")

    authorizer, msm = await domain.open("authorizer-main", replace(QUICK, handlers=3)), await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, hold)
    asking = [asyncio.create_task(msm.request(ASKED, b"", timeout=20)) for _ in range(10)]
    await until(lambda: running == 3)
    go_on.set()
    await asyncio.gather(*asking)
    assert most == 3


async def test_6_plain_functions_see_messages_in_their_order(domain: Domain) -> None:
    heard: list[int] = []
    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    await msm.subscribe("mcsa.v1.group.*.*", lambda _subject, data, _headers: heard.append(int(data)))
    for number in range(500):
        await authorizer.publish(GROUP, b"%d" % number)
    await until(lambda: len(heard) == 500)
    assert heard == list(range(500))


async def test_6_an_answer_may_come_later_from_anywhere(domain: Domain) -> None:
    waiting: list[Reply] = []
    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, lambda _s, _d, _h, reply: waiting.append(reply))
    asking = asyncio.create_task(msm.request(ASKED, b"", timeout=20))
    await until(lambda: waiting)
    await waiting[0](b"later")
    assert await asking == b"later"


async def test_7_and_13_an_exception_is_ours_alone(domain: Domain) -> None:
    crashes: list[Exception] = []
    carried: list[bytes] = []

    async def crash(_subject: str, _data: bytes, _headers: Headers, _reply: Reply) -> None:
        raise ValueError("secret detail")

    def crash_at_once(_subject: str, _data: bytes, _headers: Headers) -> None:
        raise ValueError("secret detail")

    authorizer, msm = await domain.open("authorizer-main", on_crash=crashes.append), await domain.open("msm-a")
    auditor = await domain.open("auditor")
    await auditor.subscribe(">", lambda _s, data, headers: carried.append(data + repr(headers).encode()))
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, crash)
    await authorizer.subscribe("mcsa.v1.authorizer.*.other", crash_at_once)
    with pytest.raises(BusUnavailable) as refused:
        await msm.request(ASKED, b"", timeout=0.5)
    await msm.publish("mcsa.v1.authorizer.a.other", b"")
    await until(lambda: authorizer.counters["handler-failed"] == 2)
    await msm.publish("mcsa.v1.authorizer.a.other", b"it goes on")
    await until(lambda: authorizer.counters["handler-failed"] == 3)
    assert refused.value.rule == "timeout"
    assert [str(crash) for crash in crashes] == ["secret detail"] * 3
    assert carried
    assert not [data for data in carried if b"secret" in data]


async def test_7_closing_answers_first_what_has_arrived(domain: Domain) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_subject: str, data: bytes, _headers: Headers, reply: Reply) -> None:
        began.set()
        await go_on.wait()
        await reply(data)

    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, slow)
    asking = asyncio.create_task(msm.request(ASKED, b"before the end", timeout=20))
    await began.wait()
    closing = asyncio.create_task(authorizer.close())
    await until(lambda: not authorizer.ready)
    go_on.set()
    assert await asking == b"before the end"
    await closing
    with pytest.raises(BusUnavailable) as refused:
        await msm.request(ASKED, b"after it", timeout=20)
    assert refused.value.rule == "no-responders"


async def test_7_closing_does_not_wait_for_ever(domain: Domain) -> None:
    async def stuck(_subject: str, _data: bytes, _headers: Headers, _reply: Reply) -> None:
        await asyncio.Event().wait()

    authorizer = await domain.open("authorizer-main", replace(QUICK, drain_within=0.2))
    msm = await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, stuck)
    with pytest.raises(BusUnavailable):
        await msm.request(ASKED, b"", timeout=0.1)
    await authorizer.close()
    with pytest.raises(BusUnavailable):
        await authorizer.publish(GROUP, b"")


async def test_8_what_is_not_permitted_fails_at_once_and_is_counted(domain: Domain) -> None:
    """More in test_least_privilege.py. Here: others that wait are not touched."""
    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    waiting: list[Reply] = []
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, lambda _s, _d, _h, reply: waiting.append(reply))
    allowed = asyncio.create_task(msm.request(ASKED, b"", timeout=20))
    await until(lambda: waiting)
    with pytest.raises(BusUnavailable) as refused:
        await msm.request("mcsa.v1.authorizer.b.register", b"", timeout=60)
    assert refused.value.rule == "denied"
    await waiting[0](b"answer")
    assert await allowed == b"answer"


async def test_10_a_subscription_works_as_soon_as_the_bus_is_ready_again(domain: Domain) -> None:
    """`on_ready` is where one asks for what was missed; nothing that is sent after it is missed."""
    authorizer = await domain.open("authorizer-main")
    heard: list[bytes] = []
    comings: list[int] = []

    async def ask_for_what_was_missed() -> None:
        comings.append(len(comings))

    msm = await domain.open("msm-a", on_ready=ask_for_what_was_missed)
    await msm.subscribe("mcsa.v1.group.*.*", lambda _subject, data, _headers: heard.append(data))
    domain.broker.restart()
    await until(lambda: len(comings) == 2 and authorizer.ready)
    await authorizer.publish(GROUP, b"at once")
    await until(lambda: heard == [b"at once"])


async def test_11_a_slow_reader_loses_messages_is_told_so_and_holds_up_nobody(domain: Domain) -> None:
    go_on, handled = asyncio.Event(), 0

    async def slow(_subject: str, _data: bytes, _headers: Headers) -> None:
        nonlocal handled
        await go_on.wait()
        handled += 1

    authorizer = await domain.open("authorizer-main")
    msm = await domain.open("msm-a", replace(QUICK, handlers=2, queue=10))
    csm = await domain.open("csm-a")
    await msm.subscribe("mcsa.v1.group.*.*", slow)
    await msm.serve("mcsa-msm", "1.0.0", {"join-group": "mcsa.v1.msm.a.join-group"}, echo)
    for _ in range(200):
        await authorizer.publish(GROUP, b"flood")
    await until(lambda: msm.counters["slow-consumer"] > 0)
    assert await csm.request("mcsa.v1.msm.a.join-group", b"still here", timeout=10) == b"still here"
    go_on.set()
    await until(lambda: handled + msm.counters["slow-consumer"] == 200)
    assert handled < 20


async def test_12_starting_without_a_broker_takes_as_long_as_it_was_told_and_goes_on_trying(domain: Domain) -> None:
    domain.broker.stop()
    msm = domain.bus("msm-a")
    with pytest.raises(BusUnavailable) as refused:
        await msm.start(within=0.1)
    assert refused.value.rule == "down"
    assert domain.broker.url in refused.value.sentence
    await msm.subscribe("mcsa.v1.group.*.*", lambda _subject, _data, _headers: None)
    domain.broker.start()
    await until(lambda: msm.ready)


async def test_12_closing_ends_attempts_to_connect_at_any_moment(domain: Domain) -> None:
    """`asyncio.wait_for` of Python 3.11 can swallow a cancellation; a hundred closings meet that."""
    domain.broker.stop()
    restless = replace(QUICK, retry_after=0.001, retry_at_most=0.001)
    for _ in range(4):
        buses = [domain.bus("msm-a", restless) for _ in range(25)]
        starting = await asyncio.gather(*(bus.start(within=0.02) for bus in buses), return_exceptions=True)
        assert {type(outcome) for outcome in starting} == {BusUnavailable}
        async with asyncio.timeout(20):
            await asyncio.gather(*(bus.close() for bus in buses))


async def test_nobody_serves(domain: Domain) -> None:
    msm = await domain.open("msm-a")
    with pytest.raises(BusUnavailable) as refused:
        await msm.request(ASKED, b"", timeout=60)
    assert refused.value.rule == "no-responders"
    assert ASKED in refused.value.sentence


async def test_more_than_the_broker_carries(domain: Domain) -> None:
    msm = await domain.open("msm-a")
    with pytest.raises(BusUnavailable) as refused:
        await msm.request(ASKED, bytes(2 << 20), timeout=60)
    assert refused.value.rule == "too-large"
    assert msm.ready


async def test_an_answer_nobody_waits_for_is_counted(domain: Domain) -> None:
    waiting: list[Reply] = []
    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, lambda _s, _d, _h, reply: waiting.append(reply))
    with pytest.raises(BusUnavailable):
        await msm.request(ASKED, b"", timeout=0.3)
    await until(lambda: waiting)
    await waiting[0](b"too late")
    await until(lambda: msm.counters["unasked-answer"] == 1)


async def test_an_answer_while_the_broker_is_down_is_counted_and_raises_nothing(domain: Domain) -> None:
    waiting: list[Reply] = []
    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, lambda _s, _d, _h, reply: waiting.append(reply))
    asking = asyncio.create_task(msm.request(ASKED, b"", timeout=20))
    await until(lambda: waiting)
    domain.broker.stop()
    await until(lambda: not authorizer.ready)
    await waiting[0](b"lost")
    assert authorizer.counters["reply-lost"] == 1
    with pytest.raises(BusUnavailable):
        await asking


async def test_headers_are_carried(domain: Domain) -> None:
    seen: list[dict[str, str]] = []

    async def note(_subject: str, _data: bytes, headers: Headers, reply: Reply) -> None:
        seen.append(dict(headers))
        await reply(b"")

    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, note)
    context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await msm.request(ASKED, b"", timeout=10, headers={"traceparent": context})
    await msm.request(ASKED, b"", timeout=10)
    assert seen == [{"traceparent": context}, {}]


async def test_an_operator_finds_services_and_their_statistics(domain: Domain) -> None:
    authorizer, operator = await domain.open("authorizer-main"), await domain.open("operator")
    msm = await domain.open("msm-a")
    await authorizer.serve("mcsa-authorizer", "1.2.3", VERBS, echo)
    await msm.request(ASKED, b"", timeout=10)
    with pytest.raises(BusUnavailable):
        await msm.request("mcsa.v1.authorizer.b.register", b"", timeout=60)
    found = json.loads(await operator.request("$SRV.PING", b"", timeout=10))
    assert (found["name"], found["version"]) == ("mcsa-authorizer", "1.2.3")
    information = json.loads(await operator.request("$SRV.INFO.mcsa-authorizer", b"", timeout=10))
    assert [endpoint["subject"] for endpoint in information["endpoints"]] == ["mcsa.v1.authorizer.*.register"]
    statistics = json.loads(await operator.request(f"$SRV.STATS.mcsa-authorizer.{found['id']}", b"", timeout=10))
    assert statistics["endpoints"][0]["num_requests"] == 1
    assert statistics["endpoints"][0]["data"] == dict(authorizer.counters)


async def test_replicas_share_requests_and_each_hears_its_own_answers(domain: Domain) -> None:
    served: list[str] = []

    def named(name: str):
        async def serve(_subject: str, data: bytes, _headers: Headers, reply: Reply) -> None:
            served.append(name)
            await reply(data)

        return serve

    first, second = await domain.open("authorizer-main"), await domain.open("authorizer-main")
    one, other = await domain.open("msm-a"), await domain.open("msm-a")
    await first.serve("mcsa-authorizer", "1.0.0", VERBS, named("first"))
    await second.serve("mcsa-authorizer", "1.0.0", VERBS, named("second"))
    asked = [(one, b"1"), (other, b"2")] * 20
    answers = await asyncio.gather(*(bus.request(ASKED, data, timeout=10) for bus, data in asked))
    assert answers == [data for _, data in asked]
    assert len(served) == 40
    assert set(served) == {"first", "second"}
    assert one.counters["unasked-answer"] == other.counters["unasked-answer"] == 0


async def test_a_broker_that_falls_over_again_and_again_under_load_leaves_nothing_broken(domain: Domain) -> None:
    """The fixture also looks whether anything was left to the event loop to complain about."""
    authorizer, msm = await domain.open("authorizer-main"), await domain.open("msm-a")
    heard: list[bytes] = []
    await msm.subscribe("mcsa.v1.group.*.*", lambda _subject, data, _headers: heard.append(data))
    await authorizer.serve("mcsa-authorizer", "1.0.0", VERBS, echo)
    over = asyncio.Event()
    causes: set[str] = set()

    async def keep_asking() -> None:
        while not over.is_set():
            try:
                assert await msm.request(ASKED, bytes(10_000), timeout=5) == bytes(10_000)
                await authorizer.publish(GROUP, bytes(10_000))
            except BusUnavailable as unavailable:
                causes.add(unavailable.rule)
                await asyncio.sleep(0.01)

    asking = [asyncio.create_task(keep_asking()) for _ in range(20)]
    for fall in range(6):
        await until(lambda: msm.ready and authorizer.ready)
        before = len(heard)
        await until(lambda: len(heard) > before)  # noqa: B023 - awaited here
        if fall % 2:
            domain.broker.kill()
        else:
            domain.broker.stop()
        await until(lambda: not msm.ready and not authorizer.ready)
        domain.broker.start()
    await until(lambda: msm.ready and authorizer.ready)
    over.set()
    await asyncio.gather(*asking)
    assert msm.counters["connection-lost"] == 6
    assert {"down", "lost"} <= causes <= {"down", "lost", "no-responders", "timeout"}
    assert await msm.request(ASKED, b"well", timeout=10) == b"well"


async def test_of_those_that_share_a_subject_one_gets_each_request_until_it_ends(domain: Domain) -> None:
    asked = "mcsa.v1.distributor.a.00"
    first, second, asker = await domain.open("msm-a"), await domain.open("msm-b"), await domain.open("auditor")
    heard: dict[str, int] = {"first": 0, "second": 0}

    def answer_as(name: str) -> OnRequest:
        async def answer(_subject: str, data: bytes, _headers: Headers, reply: Reply) -> None:
            heard[name] += 1
            await reply(name.encode() + data)

        return answer

    with pytest.raises(BusUnavailable) as refused:
        await asker.request(asked, b"", timeout=60)
    assert refused.value.rule == "no-responders"
    end_first = await first.share("mcsa.v1.distributor.*.00", answer_as("first"))
    end_second = await second.share("mcsa.v1.distributor.*.00", answer_as("second"))
    for number in range(40):
        assert await asker.request(asked, b"%d" % number, timeout=10) in (b"first%d" % number, b"second%d" % number)
    assert sum(heard.values()) == 40 and min(heard.values()) > 0
    await end_first()
    before = heard["first"]
    for _ in range(10):
        assert (await asker.request(asked, b"", timeout=10)) == b"second"
    assert heard["first"] == before
    domain.broker.kill()
    await until(lambda: not first.ready and not second.ready and not asker.ready)
    domain.broker.start()
    await until(lambda: first.ready and second.ready and asker.ready)
    assert await asker.request(asked, b"", timeout=10) == b"second"  # who had ended stays so on a new connection
    await end_second()
    await end_second()
    with pytest.raises(BusUnavailable) as refused:
        await asker.request(asked, b"", timeout=60)
    assert refused.value.rule == "no-responders"
