"""Logs in a real JetStream, through what servers, lines and other replicas do to them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from mcsa.durable_log import Chain, Conflict, Marks, Replay, Snapshot, Stored
from mcsa.durable_log.record import MAX_RECORD
from mcsa.errors import Refused, Rejected
from mcsa.shell.bus import BusUnavailable
from mcsa.shell.jetstream import Patience
from mcsa.shell.stream import LogStream, prepare_stream, stream_configuration
from tests.durable_log.parts import keys
from tests.shell.conftest import QUICK, Domain, until
from tests.shell.line import Line
from tests.simulation.stream import MemoryStream

LOG = "group-00ff"
PATIENCE = Patience(answer=5.0, within=15.0, again_after=0.02, again_at_most=0.1)
HASTY = Patience(answer=0.2, within=0.5, again_after=0.02, again_at_most=0.1)
DEAF = replace(QUICK, ping_every=60.0, drain_within=0.1)  # doesn't notice a silent line


class Waiting:
    """A `MemoryStream` with the manners of a `LogStream`."""

    def __init__(self) -> None:
        self._stream = MemoryStream()

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            return getattr(self._stream, name)(*arguments)

        return call

    async def read(self, *arguments: Any) -> AsyncIterator[Stored]:
        for stored in self._stream.read(*arguments):
            yield stored


@pytest_asyncio.fixture
async def store(domain: Domain) -> Domain:
    """A domain whose Authorizer has a stream."""
    await prepare_stream([domain.broker.url], domain.seeds["storekeeper"], "main", patience=PATIENCE)
    return domain


async def open_stream(store: Domain, patience: Patience = PATIENCE, **options: Any) -> LogStream:
    return LogStream(await store.open("authorizer-main", **options), "main", patience)


@pytest_asyncio.fixture(params=["jetstream", "memory"])
async def stream(request: pytest.FixtureRequest, store: Domain) -> Any:
    return Waiting() if request.param == "memory" else await open_stream(store)


async def read(stream: Any, log: str = LOG, after: int = 0) -> list[bytes]:
    return [stored.raw async for stored in stream.read(log, after)]


# ---- the store and its twin in memory


async def test_a_log_is_appended_and_read_in_order(stream: Any) -> None:
    sequence = other = 0
    sequences: list[int] = []
    for number in range(10):
        other = await stream.append("other", b"%d" % number, other)
        sequence = await stream.append(LOG, b"\x00\xff%d" % number, sequence)
        sequences.append(sequence)
    assert await read(stream) == [b"\x00\xff%d" % number for number in range(10)]
    assert await read(stream, after=sequences[6]) == [b"\x00\xff7", b"\x00\xff8", b"\x00\xff9"]
    assert await stream.last(LOG) == Stored(sequences[-1], b"\x00\xff9")
    assert await stream.following(LOG, sequences[2]) == Stored(sequences[3], b"\x00\xff3")
    assert sequences == sorted(set(sequences))


async def test_a_log_that_is_not_there_is_empty(stream: Any) -> None:
    assert await read(stream) == []
    assert await stream.last(LOG) is None
    assert await stream.following(LOG, 0) is None
    assert await stream.logs() == []
    await stream.purge(LOG, 10)
    await stream.remove(LOG)


@pytest.mark.parametrize(("expected", "rule"), [(0, "appended"), (1, "appended"), (7, "rolled-back")])
async def test_a_condition_that_does_not_hold_is_a_conflict(stream: Any, expected: int, rule: str) -> None:
    await stream.append(LOG, b"2", await stream.append(LOG, b"1", 0))
    with pytest.raises(Conflict) as conflict:
        await stream.append(LOG, b"3", expected)
    assert conflict.value.rule == rule
    assert await read(stream) == [b"1", b"2"]


async def test_the_same_record_at_the_same_place_is_the_same_one(stream: Any) -> None:
    first = await stream.append(LOG, b"1", 0)
    second = await stream.append(LOG, b"2", first)
    assert await stream.append(LOG, b"2", first) == second
    assert await stream.append(LOG, b"1", 0) == first
    assert await read(stream) == [b"1", b"2"]


async def test_what_is_purged_is_gone_and_the_place_stays(stream: Any) -> None:
    first = await stream.append(LOG, b"1", 0)
    other = await stream.append("other", b"x", 0)
    second = await stream.append(LOG, b"2", first)
    for before in (0, 1, first):
        await stream.purge(LOG, before)
        assert await read(stream) == [b"1", b"2"]
    await stream.purge(LOG, second)
    assert await read(stream) == [b"2"]
    assert await stream.append("other", b"y", other) > second
    assert await stream.append(LOG, b"3", second) > second
    assert await read(stream, "other") == [b"x", b"y"]


async def test_logs_come_and_go(stream: Any) -> None:
    sequences = {log: await stream.append(log, b"1", 0) for log in ("b", "a", "c")}
    assert await stream.logs() == ["a", "b", "c"]
    await stream.remove("b")
    assert await stream.logs() == ["a", "c"]
    assert await stream.append("b", b"again", 0) > max(sequences.values())
    assert await read(stream, "b") == [b"again"]


# ---- replicas


async def test_of_two_who_append_at_one_place_one_is_refused(store: Domain) -> None:
    replicas = [await open_stream(store) for _ in range(2)]
    sequence = 0
    for turn in range(20):
        records = [b"%d of %d" % (turn, replica) for replica in range(2)]
        outcomes = await asyncio.gather(
            *(replica.append(LOG, raw, sequence) for replica, raw in zip(replicas, records)), return_exceptions=True
        )
        (sequence,) = [outcome for outcome in outcomes if isinstance(outcome, int)]
        (conflict,) = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
        assert (conflict.rule, conflict.found) == ("appended", sequence)
        last = await replicas[0].last(LOG)
        assert last == Stored(sequence, records[outcomes.index(sequence)])
    assert len(await read(replicas[1])) == 20


async def test_who_lost_reads_on_and_goes_on(store: Domain) -> None:
    ours, theirs = await open_stream(store), await open_stream(store)
    our_chain, their_chain = Chain(LOG, keys()), Chain(LOG, keys())
    raw = their_chain.seal(b"theirs", os.urandom)
    sequence = await theirs.append(LOG, raw, 0)
    with pytest.raises(Conflict):
        await ours.append(LOG, our_chain.seal(b"ours", os.urandom), 0)
    async for stored in ours.read(LOG):
        assert our_chain.open(stored.raw).plaintext == b"theirs"
    await ours.append(LOG, our_chain.seal(b"ours", os.urandom), sequence)
    assert len(await read(theirs)) == 2


async def test_many_logs_at_the_same_time(store: Domain) -> None:
    stream = await open_stream(store)

    async def write(log: str) -> None:
        sequence = 0
        for number in range(5):
            sequence = await stream.append(log, b"%s %d" % (log.encode(), number), sequence)

    names = [f"group-{number:02}" for number in range(40)]
    await asyncio.gather(*map(write, names))
    assert await stream.logs() == names
    for name in names:
        assert await read(stream, name) == [b"%s %d" % (name.encode(), number) for number in range(5)]


# ---- crashes


async def test_the_broker_is_killed_after_it_stored_and_before_it_said_so(store: Domain) -> None:
    witness = await open_stream(store)
    async with Line(store.broker.port) as line:
        stream = await open_stream(store, url=line.url)
        first = await stream.append(LOG, b"1", 0)
        line.lose("to-client")
        appending = asyncio.create_task(stream.append(LOG, b"2", first))
        await stored_after(witness, first)
        assert not appending.done()
        store.broker.kill()
        store.broker.start()
        second = await appending
        assert await stream.append(LOG, b"3", second) == second + 1
        assert await read(stream) == [b"1", b"2", b"3"]
        await close_all(store)


async def test_the_broker_is_killed_before_the_record_arrived(store: Domain) -> None:
    async with Line(store.broker.port) as line:
        stream = await open_stream(store, url=line.url)
        first = await stream.append(LOG, b"1", 0)
        line.lose("to-server")
        appending = asyncio.create_task(stream.append(LOG, b"2", first))
        await asyncio.sleep(0.05)
        store.broker.kill()
        store.broker.start()
        await appending
        assert await read(stream) == [b"1", b"2"]
        await close_all(store)


async def test_another_replica_takes_the_place_while_the_line_is_dead(store: Domain) -> None:
    """First, ours was lost. Second, ours was stored, and theirs follows it: ours is acknowledged all the same."""
    theirs = await open_stream(store)
    for way in ("to-server", "to-client"):
        last = await theirs.last(LOG)
        place = last.sequence if last else 0
        async with Line(store.broker.port) as line:
            bus = await store.open("authorizer-main", replace(QUICK, ping_every=0.5), url=line.url)
            ours = LogStream(bus, "main", PATIENCE)
            line.lose(way)
            appending = asyncio.create_task(ours.append(LOG, b"ours", place))
            if way == "to-client":
                stored = await stored_after(theirs, place)
                await theirs.append(LOG, b"theirs", stored.sequence)
                assert await appending == stored.sequence
            else:
                await theirs.append(LOG, b"theirs", place)
                with pytest.raises(Conflict) as conflict:
                    await appending
                assert conflict.value.rule == "appended"
            await close_all(store, bus)
    assert await read(theirs) == [b"theirs", b"ours", b"theirs"]


async def test_an_append_that_nobody_answered_is_the_same_when_it_is_made_again(store: Domain) -> None:
    async with Line(store.broker.port) as line:
        stream = await open_stream(store, HASTY, pace=DEAF, url=line.url)
        line.lose("to-client")
        with pytest.raises(BusUnavailable) as unavailable:
            await stream.append(LOG, b"1", 0)
        assert unavailable.value.rule == "timeout"
        again = await open_stream(store)
        await again.append(LOG, b"1", 0)
        assert await read(again) == [b"1"]
        await close_all(store)


async def test_killed_at_any_moment_it_keeps_what_it_acknowledged(store: Domain) -> None:
    stream = await open_stream(store)
    acknowledged: list[bytes] = []
    kills = 0

    async def write() -> None:
        sequence = 0
        while kills < 4 or len(acknowledged) < 60:
            raw = os.urandom(100)
            sequence = await stream.append(LOG, raw, sequence)
            acknowledged.append(raw)

    writing = asyncio.create_task(write())
    for _ in range(4):
        enough = len(acknowledged) + 10
        await until(lambda: len(acknowledged) >= enough)  # noqa: B023 - it ends before the next turn
        store.broker.kill()
        kills += 1
        store.broker.start()
    await writing
    assert await read(stream) == acknowledged


# ---- a store that forgets


async def test_an_older_copy_of_the_store_is_noticed(store: Domain) -> None:
    stream = await open_stream(store)
    directory = store.broker.directory / "jetstream"
    chain, marks, sequence = Chain(LOG, keys()), Marks(), 0
    for number in range(6):
        raw = chain.seal(b"%d" % number, os.urandom)
        sequence = await stream.append(LOG, raw, sequence)
        chain.advance(raw)
        if number == 2:
            store.broker.stop()
            shutil.copytree(directory, directory.with_name("copy"))
            store.broker.start()
    marks.set((await replay(stream)).mark)
    store.broker.kill()
    shutil.rmtree(directory)
    directory.with_name("copy").rename(directory)
    store.broker.start()
    with pytest.raises(Conflict) as conflict:
        await stream.append(LOG, chain.seal(b"6", os.urandom), sequence)
    assert conflict.value.rule == "rolled-back"
    read_again = await replay(stream)
    assert read_again.entries == (b"0", b"1", b"2")
    with pytest.raises(Rejected, match="rolled back"):
        marks.check(read_again.chain)


async def test_a_cut_tail_is_noticed_and_nothing_can_be_put_in_its_place(store: Domain) -> None:
    """A hostile broker: it makes the stream anew, with what it likes."""
    stream = await open_stream(store)
    chain, sequence = Chain(LOG, keys()), 0
    for number in range(4):
        raw = chain.seal(b"%d" % number, os.urandom)
        sequence = await stream.append(LOG, raw, sequence)
        chain.advance(raw)
    raws = await read(stream)
    mark = (await replay(stream)).mark
    for shown, entries in ((raws[:2], (b"0", b"1")), (raws[:1] + raws[2:], None), ([*raws[:2], raws[1]], None)):
        await make_anew(store, shown)
        if entries is None:
            with pytest.raises(Rejected):
                await replay(stream)
        else:
            assert (await replay(stream)).entries == entries
            with pytest.raises(Rejected, match="rolled back"):
                Marks([mark]).check((await replay(stream)).chain)
            with pytest.raises(Conflict) as conflict:
                await stream.append(LOG, chain.seal(b"4", os.urandom), sequence)
            assert conflict.value.rule == "rolled-back"


async def test_a_large_snapshot_goes_through_and_what_was_before_is_purged(store: Domain) -> None:
    stream = await open_stream(store)
    chain = Chain(LOG, keys())
    sequence = await append(stream, chain, chain.seal(b"1", os.urandom), 0)
    state = os.urandom(3 << 20)
    snapshot = Snapshot(chain, state)
    first = None
    while not snapshot.complete:
        raw = snapshot.seal_next(os.urandom)
        sequence = await stream.append(LOG, raw, sequence)
        first = first or sequence
        snapshot.advance(raw)
        sequence = await append(stream, chain, chain.seal(b"2", os.urandom), sequence)
    assert first is not None
    await stream.purge(LOG, first)
    replayed = await replay(stream)
    assert replayed.snapshot == state
    assert replayed.entries == (b"2",) * snapshot.count
    assert len(await read(stream)) == 2 * snapshot.count


async def test_the_longest_record_goes_through_and_a_longer_one_is_refused(store: Domain) -> None:
    stream = await open_stream(store)
    longest = os.urandom(MAX_RECORD)
    await stream.append(LOG, longest, 0)
    assert await read(stream) == [longest]
    with pytest.raises(BusUnavailable) as refused:
        await stream.append(LOG, bytes(MAX_RECORD + 1), 1)
    assert refused.value.rule == "too-large"
    assert store.buses[-1].ready


# ---- who may


async def test_nobody_else_touches_the_log(store: Domain) -> None:
    await (await open_stream(store)).append(LOG, b"1", 0)
    own = ["INFO", "MSG.GET", "PURGE"]
    others = ["CREATE", "UPDATE", "DELETE", "MSG.DELETE", "SNAPSHOT", "RESTORE", "PEER.REMOVE", "LEADER.STEPDOWN"]
    stream = "MCSA_AUTHORIZER_main"
    wide = ["$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.INFO", f"$JS.API.DIRECT.GET.{stream}"]
    consumers = [f"$JS.API.CONSUMER.{verb}.{stream}" for verb in ("CREATE", "LIST", "DURABLE.CREATE")]
    append = f"mcsa.v1.log.main.{LOG}"
    of_stream = {verb: f"$JS.API.STREAM.{verb}.{stream}" for verb in own + others}
    all_of_it = [append, *of_stream.values(), *wide, *consumers]
    another = ["mcsa.v1.log.other.a", "$JS.API.STREAM.INFO.MCSA_AUTHORIZER_other", "$JS.API.STREAM.PURGE.OTHER"]
    denied = {
        "authorizer-main": [*(of_stream[verb] for verb in others), *wide, *consumers, *another],
        "storekeeper": [append, *(of_stream[verb] for verb in own + others[2:]), *wide, *consumers, *another],
        **dict.fromkeys(("msm-a", "csm-a", "sd-main", "operator"), all_of_it),
    }
    for name, subjects in denied.items():
        bus = await store.open(name)
        for subject in subjects:
            with pytest.raises(BusUnavailable) as refused:
                await bus.request(subject, b"", timeout=60)
            assert refused.value.rule == "denied", (name, subject)


@pytest.mark.parametrize("name", ["msm-a", "csm-a", "sd-main", "operator", "authorizer-main", "storekeeper"])
async def test_nobody_hears_the_log(store: Domain, name: str) -> None:
    bus = await store.open(name)
    for subject in (f"mcsa.v1.log.main.{LOG}", "mcsa.v1.log.>", "$JS.API.>", "$JS.EVENT.>"):
        with pytest.raises(BusUnavailable) as refused:
            await bus.subscribe(subject, lambda _subject, _data, _headers: None)
        assert refused.value.rule == "denied"


# ---- a store that is not there, or makes no sense


async def test_a_broker_that_is_down_is_waited_for_as_long_as_was_said(store: Domain) -> None:
    stream = await open_stream(store, HASTY)
    store.broker.stop()
    for asking in (stream.append(LOG, b"1", 0), stream.last(LOG), stream.logs(), stream.purge(LOG, 9)):
        with pytest.raises(BusUnavailable) as unavailable:
            await asking
        assert unavailable.value.rule in ("down", "lost")
    store.broker.start()
    await until(lambda: store.buses[-1].ready)
    assert await read(stream) == []


async def test_without_its_stream_an_authorizer_is_told(domain: Domain) -> None:
    stream = LogStream(await domain.open("authorizer-main"), "main", HASTY)
    with pytest.raises(BusUnavailable, match="stream not found") as unavailable:
        await stream.append(LOG, b"1", 0)
    assert unavailable.value.rule == "store"
    with pytest.raises(Refused, match="mcsa store prepare main") as refused:
        await stream.logs()
    assert refused.value.rule == "stream"


async def test_preparing_twice_changes_nothing(store: Domain) -> None:
    stream = await open_stream(store)
    await stream.append(LOG, b"1", 0)
    await prepare_stream([store.broker.url], store.seeds["storekeeper"], "main", patience=PATIENCE)
    assert await read(stream) == [b"1"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"error": 1}',
        b'{"seq": "1"}',
        b'{"seq": 0}',
        b'{"message": 1, "state": []}',
        b'{"message": {"seq": 0, "data": ""}}',
        b'{"message": {"seq": 9, "data": "?"}, "state": {"subjects": {"elsewhere": 1}}}',
        b'{"message": {"seq": null}, "state": {"subjects": []}}',
    ],
)
async def test_an_answer_that_makes_no_sense_is_none(answer: bytes) -> None:
    class Hostile:
        async def request(self, *_arguments: Any) -> bytes:
            return answer

    stream = LogStream(Hostile(), "main", HASTY)  # type: ignore[arg-type]
    for asking in (stream.append(LOG, b"1", 3), stream.last(LOG), stream.following(LOG, 3)):
        with pytest.raises(BusUnavailable) as unavailable:
            await asking
        assert unavailable.value.rule == "store"


# ---- parts


async def append(stream: LogStream, chain: Chain, raw: bytes, expected: int) -> int:
    sequence = await stream.append(chain.log, raw, expected)
    chain.advance(raw)
    return sequence


async def stored_after(stream: LogStream, sequence: int) -> Stored:
    """Once it is there."""
    while (stored := await stream.following(LOG, sequence)) is None:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.01)
    return stored


async def replay(stream: LogStream) -> Any:
    reading = Replay(LOG, keys())
    async for stored in stream.read(LOG):
        reading.feed(stored.raw)
    return reading.finish()


async def make_anew(store: Domain, raws: list[bytes]) -> None:
    auditor = await store.open("auditor")
    await auditor.request("$JS.API.STREAM.DELETE.MCSA_AUTHORIZER_main", b"", 10)
    configuration = json.dumps(stream_configuration("main", 1)).encode()
    await auditor.request("$JS.API.STREAM.CREATE.MCSA_AUTHORIZER_main", configuration, 10)
    for raw in raws:
        await auditor.request(f"mcsa.v1.log.main.{LOG}", raw, 10)


async def close_all(store: Domain, *buses: Any) -> None:
    """Before the line is."""
    for bus in buses or tuple(store.buses):
        await bus.close()
        store.buses.remove(bus)
