"""The directory service: whose announcement is whose, and what it refuses."""

from __future__ import annotations

from typing import Any

from mcsa.endpoint import Answer, Count, Refuse, Requested, Woken
from mcsa.envelope import MAX_SIZE
from mcsa.networks import Networks
from mcsa.sap.directory import Directory, Place
from mcsa.sap.packet import SapPacket, parse_packet
from mcsa.sap.scopes import LOCAL
from mcsa.v1 import sd_pb2 as wire
from services.sd.core import ANNOUNCED, ANNOUNCED_PER_HOST, SdCore
from services.sd.events import KeepState, SapArrived, SendSap
from tests.sap.parts import SECRET, described, foreign
from tests.world import NOW, World, seeded


def asked(core: SdCore, world: World, verb: str, message: Any, host: str = "alpha") -> list[Any]:
    return core.handle(Requested(verb, world.host(host).identity, message, "token", b""), NOW)


def made() -> SdCore:
    return SdCore(Directory(Place(Networks.only("198.51.100.1")), seeded(1)))


def test_announce_hear_list_withdraw(world: World):
    core, sdp = made(), described(world)
    effects = asked(core, world, "announce", wire.AnnounceRequest(sdp=sdp))
    (said,) = [effect for effect in effects if isinstance(effect, SendSap)]
    assert isinstance(effects[-1], Answer)
    assert isinstance(effects[-1].message, wire.AnnounceResponse) and effects[-1].message.hash
    (answer,) = asked(core, world, "list", wire.ListRequest())
    assert not answer.message.sessions  # nothing was heard yet
    assert core.handle(SapArrived(said.payload, "198.51.100.1", LOCAL), NOW) == [Count("sap.heard")]
    (answer,) = asked(core, world, "list", wire.ListRequest())
    assert [session.sdp for session in answer.message.sessions] == [sdp]
    assert answer.message.sessions[0].source == "198.51.100.1"
    effects = asked(core, world, "withdraw", wire.WithdrawRequest(sdp=sdp, secret=SECRET))
    deletions = [effect for effect in effects if isinstance(effect, SendSap)]
    core.handle(SapArrived(deletions[0].payload, "198.51.100.1", LOCAL), NOW)
    (answer,) = asked(core, world, "list", wire.ListRequest())
    assert not answer.message.sessions


def test_announcements_are_repeated(world: World):
    core = made()
    asked(core, world, "announce", wire.AnnounceRequest(sdp=described(world)))
    effects: list[Any] = []
    while SendSap not in effects:
        at = core.wake_at()
        assert at is not None
        effects += [type(effect) for effect in core.handle(Woken(), at)]
    assert effects == [KeepState, SendSap]


def refusal(effects: list[Any]) -> tuple[str, str]:
    (effect,) = effects
    assert isinstance(effect, Refuse)
    return effect.refusal.code, effect.refusal.rule


def test_what_is_refused(world: World):
    core, sdp = made(), described(world)
    asked(core, world, "announce", wire.AnnounceRequest(sdp=sdp))
    other = asked(core, world, "withdraw", wire.WithdrawRequest(sdp=sdp), host="beta")
    assert refusal(other) == ("not-allowed", "own-announcements-only")
    guessed = asked(core, world, "withdraw", wire.WithdrawRequest(sdp=sdp, secret=bytes(32)), host="beta")
    assert refusal(guessed) == ("withdrawal", "secret")
    plain = foreign(session=77)
    asked(core, world, "announce", wire.AnnounceRequest(sdp=plain))
    other = asked(core, world, "withdraw", wire.WithdrawRequest(sdp=plain, secret=SECRET), host="beta")
    assert refusal(other) == ("not-allowed", "own-announcements-only")
    asked(core, world, "withdraw", wire.WithdrawRequest(sdp=plain))
    too_long = asked(core, world, "announce", wire.AnnounceRequest(sdp=foreign() + b"a=x\r\n" * 200))
    assert refusal(too_long) == ("announcement", "size")
    bad = asked(core, world, "announce", wire.AnnounceRequest(sdp=b"v=0\r\ns=x\r\n"))
    assert refusal(bad) == ("announcement", "missing-line")
    for number in range(ANNOUNCED_PER_HOST - 1):
        asked(core, world, "announce", wire.AnnounceRequest(sdp=foreign(session=number)))
    full = asked(core, world, "announce", wire.AnnounceRequest(sdp=foreign(session=9_999)))
    assert refusal(full) == ("too-many", "announcements")


def test_who_has_the_secret_ends_it_also_where_another_host_said_the_same_first(world: World):
    """After the directory has lost its state, say: a text can be heard, and asked for, by anybody."""
    core, sdp = made(), described(world)
    asked(core, world, "announce", wire.AnnounceRequest(sdp=sdp), host="beta")
    asked(core, world, "announce", wire.AnnounceRequest(sdp=sdp))
    effects = asked(core, world, "withdraw", wire.WithdrawRequest(sdp=sdp, secret=SECRET))
    assert isinstance(effects[-1], Answer)
    assert core.directory.announced() == []


def test_garbage_from_the_network_is_counted_by_cause():
    core = made()
    for raw, cause in (
        (b"", "sap"),
        (b"\x00" * 20, "sap-version"),
        (SapPacket("192.0.2.1", 1, b"v=0\r\ns=x\r\n").encode(), "missing-line"),
        (SapPacket("192.0.2.1", 1, foreign() + b"a=x\r\n" * 1_000).encode(), "oversize"),
        (SapPacket("192.0.2.1", 1, foreign(), deletion=True).encode(), "deletion"),
    ):
        assert core.handle(SapArrived(raw, "192.0.2.1", LOCAL), NOW) == [Count(f"rejected.sap.{cause}")]


def test_what_has_ended_takes_no_room_of_its_host(world: World):
    core = made()
    for number in range(ANNOUNCED_PER_HOST):
        sdp = described(world, version=number, end=int(NOW) + 1)
        assert isinstance(asked(core, world, "announce", wire.AnnounceRequest(sdp=sdp))[-1], Answer)
    again = asked(core, world, "announce", wire.AnnounceRequest(sdp=sdp))
    assert isinstance(again[-1], Answer)  # nothing new
    core.handle(Woken(), NOW + 1)
    assert isinstance(asked(core, world, "announce", wire.AnnounceRequest(sdp=described(world)))[-1], Answer)


def test_with_all_that_is_announced_and_all_that_liars_say_a_list_is_still_one_envelope(world: World):
    core, hosts = made(), ["alpha", "beta", "gamma", "delta"]
    refused = []
    for number in range(len(hosts) * ANNOUNCED_PER_HOST):
        text = foreign(session=number)
        sdp = text + b"a=x:" + b"y" * (1_000 - len(text) - 6) + b"\r\n"
        effects = asked(core, world, "announce", wire.AnnounceRequest(sdp=sdp), hosts[number % len(hosts)])
        if isinstance(effects[-1], Answer):
            assert core.handle(SapArrived(effects[0].payload, "198.51.100.1", LOCAL), NOW) == [Count("sap.heard")]
        else:
            refused.append(refusal(effects))
    assert set(refused) == {("too-many", "directory")}
    for number in range(1_200):
        source = f"203.0.113.{number % 20}"
        length = 0 if number % 2 else 1_900
        sdp = foreign("x", session=number) + b"a=x:" + b"y" * length + b"\r\n"
        core.handle(SapArrived(SapPacket(source, 65_535, sdp).encode(), source, LOCAL), NOW)
    (answer,) = asked(core, world, "list", wire.ListRequest())
    assert MAX_SIZE * 3 // 4 < answer.message.ByteSize() < MAX_SIZE - 8_192  # certificates and signature
    ours = [session for session in answer.message.sessions if session.source == "198.51.100.1"]
    assert len(ours) == ANNOUNCED


def test_a_forged_deletion_and_garbage_leave_the_list_as_it_is(world: World):
    core, sdp = made(), described(world)
    effects = asked(core, world, "announce", wire.AnnounceRequest(sdp=sdp))
    said = effects[0].payload
    core.handle(SapArrived(said, "198.51.100.1", LOCAL), NOW)
    forged = SapPacket("198.51.100.1", parse_packet(said).hash, sdp, deletion=True).encode()
    assert core.handle(SapArrived(forged, "198.51.100.1", LOCAL), NOW) == [Count("rejected.sap.deletion")]
    for size in range(len(said)):
        (count,) = core.handle(SapArrived(said[:size], "198.51.100.9", LOCAL), NOW)
        assert isinstance(count, Count)
    (answer,) = asked(core, world, "list", wire.ListRequest())
    assert sdp in [session.sdp for session in answer.message.sessions]


def test_what_a_host_withdrew_without_the_secret_makes_no_list_too_long(world: World):
    core = made()
    for number in range(600):
        sdp = foreign(session=number) + b"a=x:" + b"y" * 800 + b"\r\n"
        sdp = sdp.replace(b"m=", b"a=mcsa-withdraw:" + b"A" * 43 + b"=\r\nm=")
        for effect in asked(core, world, "announce", wire.AnnounceRequest(sdp=sdp)):
            if isinstance(effect, SendSap):
                core.handle(SapArrived(effect.payload, "198.51.100.1", LOCAL), NOW)
        asked(core, world, "withdraw", wire.WithdrawRequest(sdp=sdp, secret=b""))
    (answer,) = asked(core, world, "list", wire.ListRequest())
    assert 10 < len(answer.message.sessions) < 100 and answer.message.ByteSize() < MAX_SIZE - 8_192
