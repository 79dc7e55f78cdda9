"""The directory as a process, on a laboratory's network: it lists what its socket received, and survives the rest."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcsa.broker import bus_name
from mcsa.demo.statistics import statistics
from mcsa.domain.files import DIRECTORY_NAME, DomainFiles
from mcsa.domain.processes import INFRASTRUCTURE, DomainProcesses
from mcsa.envelope import Expected, parse_envelope, sign_envelope, type_name
from mcsa.identity import Credentials
from mcsa.laboratory.kind import kind
from mcsa.laboratory.namespaces import Laboratory
from mcsa.sap.cache import ROOM_PER_SOURCE
from mcsa.sap.packet import PORT, SapPacket, parse_packet
from mcsa.sap.scopes import ADDRESSES, LOCAL, ipv6_address
from mcsa.shell.bus import Bus
from mcsa.shell.multicast import MulticastListener
from mcsa.shell.nkeys import load_nkey
from mcsa.subjects import MSM, SD, SERVICES, subject
from mcsa.trust import Trust
from mcsa.v1 import sd_pb2 as wire
from services.sd.service import STATE
from tests.judges import lacking, require_program
from tests.sap.parts import SECRET, described, foreign
from tests.world import World

WITHIN = 10.0  # seconds
FLOOD = 1_500

Ask = Callable[[str, Any], Awaitable[Any]]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[DomainProcesses]:
    """A broker and a directory, which hears of its own what the bridge gives back, and the place of an MSM on alpha."""
    if kind().name != "namespaces":
        lacking(f"network namespaces: {kind().reason}")
    require_program("nft")
    files = DomainFiles(tmp_path / "domain", "test.example")
    options = {"interval_floor": 0.3}
    with (
        Laboratory(["alpha", "beta", INFRASTRUCTURE], (INFRASTRUCTURE,)) as laboratory,
        DomainProcesses(laboratory, files, ["alpha"], services=("sd",), sd_options=options) as running,
    ):
        yield running


def on_alpha(processes: DomainProcesses, test: Callable[[Ask], Awaitable[None]]) -> None:
    """Runs a test where alpha's MSM would be, with its keys."""
    files = processes.files
    credentials: Credentials = files.credentials("host", "alpha")
    trust = Trust(files.domain, [files.authority.certificate])
    directory = f"spiffe://{files.domain}/directory/{DIRECTORY_NAME}"

    async def run() -> None:
        bus = Bus([processes.broker.url], bus_name(MSM, "alpha"), load_nkey(files.nkey_path(MSM, "alpha")))
        await bus.start()

        async def ask(verb: str, message: Any) -> Any:
            now, response = time.time(), SERVICES[SD][verb].response
            raw, payload_hash = sign_envelope(credentials, message, directory, os.urandom(16), now + WITHIN)
            answer = await bus.request(subject(SD, "alpha", verb), raw, WITHIN)
            types = {type_name(response): response}
            expected = Expected([str(credentials.id)], types, ("directory",), payload_hash)
            return parse_envelope(answer).verify(trust, expected, now).message

        try:
            await test(ask)
        finally:
            await bus.close()

    with processes.laboratory["alpha"].inside():  # of this thread nothing else runs meanwhile
        asyncio.run(run())


async def listed(ask: Ask) -> list[bytes]:
    return [session.sdp for session in (await ask("list", wire.ListRequest())).sessions]


async def until_listed(ask: Ask, wanted: Callable[[list[bytes]], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not wanted(sessions := await listed(ask)):
        assert time.monotonic() < deadline, sessions
        await asyncio.sleep(0.1)


async def until_heard(listener: MulticastListener, sdp: bytes) -> None:
    deadline = time.monotonic() + WITHIN
    while (heard := listener.receive()) is None or parse_packet(heard.payload).payload != sdp:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def counters(processes: DomainProcesses) -> dict[str, int]:
    """What an operator sees."""
    nkey = processes.files.folder / "operator.nkey"
    with processes.laboratory["alpha"].inside():
        return asyncio.run(statistics(processes.broker.url, nkey, SD))


def test_it_lists_what_the_network_carried_and_nothing_else(processes: DomainProcesses, world: World) -> None:
    sdp, faults = described(world), processes.laboratory.faults

    async def test(ask: Ask) -> None:
        faults.drop_udp_port(PORT)
        assert (await ask("announce", wire.AnnounceRequest(sdp=sdp))).hash
        await asyncio.sleep(1.0)  # three announcements
        assert await listed(ask) == []
        faults.clear()
        await until_listed(ask, lambda sessions: sessions == [sdp])
        await ask("withdraw", wire.WithdrawRequest(sdp=sdp, secret=SECRET))
        await until_listed(ask, lambda sessions: sessions == [])

    on_alpha(processes, test)


def test_the_first_announcement_comes_at_once_with_the_right_scope(processes: DomainProcesses, world: World) -> None:
    sdp, laboratory = described(world), processes.laboratory
    with laboratory["beta"].inside():
        listener = MulticastListener(ADDRESSES, PORT, laboratory["beta"].address)
    laboratory.await_membership(laboratory["beta"], LOCAL)

    async def test(ask: Ask) -> None:
        await ask("announce", wire.AnnounceRequest(sdp=sdp))
        deadline = time.monotonic() + WITHIN
        while (heard := listener.receive()) is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert (heard.group, heard.source) == (LOCAL, laboratory[INFRASTRUCTURE].address)
        assert parse_packet(heard.payload).payload == sdp

    with listener:
        on_alpha(processes, test)


def test_bad_input_is_counted_by_its_cause_and_a_flood_leaves_what_is_ours(
    processes: DomainProcesses, world: World
) -> None:
    sdp, laboratory = described(world), processes.laboratory
    beta = laboratory["beta"]
    with beta.inside():
        sender = MulticastListener([LOCAL], PORT, beta.address)
    bad = {
        "sap": b"\x20\0\x01",
        "sap-version": b"\x40" + bytes(19),
        "sap-encrypted": b"\x22" + bytes(19),
        "sap-compressed": b"\x21" + bytes(19),
        "sap-payload-type": SapPacket(beta.address, 1, b"").encode().replace(b"sdp", b"???") + b"x",
        "sdp": SapPacket(beta.address, 1, b"v=0\r\n\xff\xfe").encode(),
        "missing-line": SapPacket(beta.address, 1, b"v=0\r\ns=x\r\n").encode(),
        "oversize": SapPacket(beta.address, 1, foreign() + b"a=x\r\n" * 1_000).encode(),
    }

    async def test(ask: Ask) -> None:
        answer = await ask("announce", wire.AnnounceRequest(sdp=sdp))
        await until_listed(ask, lambda sessions: sessions == [sdp])
        forged = SapPacket(laboratory[INFRASTRUCTURE].address, answer.hash, sdp, deletion=True).encode()
        for raw in [*bad.values(), forged]:
            sender.send(raw, LOCAL)
        for number in range(FLOOD):
            text = foreign(f"flood {number}", session=number) + b"a=x:" + b"y" * 1_800 + b"\r\n"
            sender.send(SapPacket(beta.address, number + 1, text).encode(), LOCAL)
        last = foreign("the last", session=FLOOD)
        while last not in (sessions := await listed(ask)):  # again, since the network may have dropped it
            sender.send(SapPacket(beta.address, 65_000, last).encode(), LOCAL)
            await asyncio.sleep(0.1)
        assert sdp in sessions and 1 < len(sessions) < 50

    with sender:
        on_alpha(processes, test)
    counted = counters(processes)
    for cause in [*bad, "deletion"]:
        assert counted[f"rejected.sap.{cause}"] == 1, (cause, counted)
    assert counted["sap.heard"] > 2 * ROOM_PER_SOURCE // 1_800  # more than there is room for, if not all


def test_after_a_restart_it_goes_on_announcing_and_lists_what_it_had_heard(
    processes: DomainProcesses, world: World
) -> None:
    """Also where it was killed; and what was withdrawn stays withdrawn."""
    ours, theirs, gone = described(world), foreign("a film"), described(world, title="gone", secret=b"g" * 16)
    gone = gone.replace(b"o=- ", b"o=- 9")  # another session than ours
    laboratory, sd = processes.laboratory, processes.services["sd"]
    beta = laboratory["beta"]
    with beta.inside():
        other = MulticastListener([LOCAL], PORT, beta.address)

    async def announce(ask: Ask) -> None:
        for sdp in (ours, gone):
            await ask("announce", wire.AnnounceRequest(sdp=sdp))
        other.send(SapPacket(beta.address, 7, theirs).encode(), LOCAL)
        await until_listed(ask, lambda sessions: set(sessions) == {ours, theirs, gone})
        await ask("withdraw", wire.WithdrawRequest(sdp=gone, secret=b"g" * 16))
        await until_listed(ask, lambda sessions: set(sessions) == {ours, theirs})
        await asyncio.sleep(1.5)  # what is announced is written down within a second

    async def look(ask: Ask) -> None:
        other.send(SapPacket(laboratory[INFRASTRUCTURE].address, 9, gone).encode(), LOCAL)
        assert set(await listed(ask)) == {ours, theirs}
        await until_heard(other, ours)  # a moment after its start, without anybody's asking
        assert set(await listed(ask)) == {ours, theirs}

    with other:
        on_alpha(processes, announce)
        sd.kill()
        while other.receive() is not None:
            pass
        sd.restart()
        on_alpha(processes, look)
        assert counters(processes)["rejected.sap.withdrawn"] >= 1
        assert sd.stop() == 0
        state = processes.files.folder / "state" / "sd-sd" / STATE
        assert state.stat().st_mode & 0o777 == 0o600
        state.write_bytes(b"\xff" * 100)
        sd.restart()

        async def anew(ask: Ask) -> None:
            assert theirs not in await listed(ask)

        on_alpha(processes, anew)
        assert counters(processes)["state.unreadable"] == 1


def test_ipv6_is_announced_and_heard_in_its_scope(processes: DomainProcesses) -> None:
    laboratory = processes.laboratory
    beta, address = laboratory["beta"], ipv6_address(8)
    six = foreign("on IPv6").replace(b"IP4 239.255.7.9/5", b"IP6 ff18::7:9")
    theirs = foreign("another", session=2).replace(b"IP4 239.255.7.9/5", b"IP6 ff15::7:9")
    with beta.inside():
        other = MulticastListener([address], PORT, beta.address6)

    async def test(ask: Ask) -> None:
        await ask("announce", wire.AnnounceRequest(sdp=six))
        other.send(SapPacket(beta.address6, 7, theirs).encode(), ipv6_address(5))
        await until_listed(ask, lambda sessions: set(sessions) == {six, theirs})
        answer = await ask("list", wire.ListRequest())
        said = {session.sdp: (list(session.scopes), session.source) for session in answer.sessions}
        assert said[six] == (["organisation"], laboratory[INFRASTRUCTURE].address6)
        assert said[theirs] == (["site"], beta.address6)
        await until_heard(other, six)

    with other:
        on_alpha(processes, test)
