"""The directory service: whose announcement is whose, and what it refuses."""

from __future__ import annotations

from typing import Any

from mcsa.endpoint import Answer, Count, Refuse, Requested, Woken
from mcsa.sap.directory import Directory
from mcsa.sap.packet import SapPacket
from mcsa.v1 import sd_pb2 as wire
from services.sd.core import ANNOUNCED_PER_HOST, SdCore
from services.sd.events import SapArrived, SendSap
from tests.sap.parts import SECRET, described, foreign
from tests.world import NOW, World, seeded


def asked(core: SdCore, world: World, verb: str, message: Any, host: str = "alpha") -> list[Any]:
    return core.handle(Requested(verb, world.host(host).identity, message, "token", b""), NOW)


def made() -> SdCore:
    return SdCore(Directory("198.51.100.1", seeded(1)))


def test_announce_hear_list_withdraw(world: World):
    core, sdp = made(), described(world)
    effects = asked(core, world, "announce", wire.AnnounceRequest(sdp=sdp))
    (said,) = [effect for effect in effects if isinstance(effect, SendSap)]
    assert isinstance(effects[-1], Answer)
    assert isinstance(effects[-1].message, wire.AnnounceResponse) and effects[-1].message.hash
    (answer,) = asked(core, world, "list", wire.ListRequest())
    assert not answer.message.sessions  # nothing was heard yet
    assert core.handle(SapArrived(said.payload, "198.51.100.1"), NOW) == [Count("sap.heard")]
    (answer,) = asked(core, world, "list", wire.ListRequest())
    assert [session.sdp for session in answer.message.sessions] == [sdp]
    assert answer.message.sessions[0].source == "198.51.100.1"
    effects = asked(core, world, "withdraw", wire.WithdrawRequest(sdp=sdp, secret=SECRET))
    deletions = [effect for effect in effects if isinstance(effect, SendSap)]
    core.handle(SapArrived(deletions[0].payload, "198.51.100.1"), NOW)
    (answer,) = asked(core, world, "list", wire.ListRequest())
    assert not answer.message.sessions


def test_announcements_are_repeated(world: World):
    core = made()
    asked(core, world, "announce", wire.AnnounceRequest(sdp=described(world)))
    at = core.wake_at()
    assert at is not None
    assert [type(effect) for effect in core.handle(Woken(), at)] == [SendSap]


def refusal(effects: list[Any]) -> tuple[str, str]:
    (effect,) = effects
    assert isinstance(effect, Refuse)
    return effect.refusal.code, effect.refusal.rule


def test_what_is_refused(world: World):
    core, sdp = made(), described(world)
    asked(core, world, "announce", wire.AnnounceRequest(sdp=sdp))
    other = asked(core, world, "withdraw", wire.WithdrawRequest(sdp=sdp, secret=SECRET), host="beta")
    assert refusal(other) == ("not-allowed", "own-announcements-only")
    too_long = asked(core, world, "announce", wire.AnnounceRequest(sdp=foreign() + b"a=x\r\n" * 200))
    assert refusal(too_long) == ("announcement", "size")
    bad = asked(core, world, "announce", wire.AnnounceRequest(sdp=b"v=0\r\ns=x\r\n"))
    assert refusal(bad) == ("announcement", "missing-line")
    for number in range(ANNOUNCED_PER_HOST - 1):
        asked(core, world, "announce", wire.AnnounceRequest(sdp=foreign(session=number)))
    full = asked(core, world, "announce", wire.AnnounceRequest(sdp=foreign(session=9_999)))
    assert refusal(full) == ("too-many", "announcements")


def test_garbage_from_the_network_is_counted_by_cause():
    core = made()
    for raw, cause in (
        (b"", "sap"),
        (b"\x00" * 20, "sap-version"),
        (SapPacket("192.0.2.1", 1, b"v=0\r\ns=x\r\n").encode(), "missing-line"),
        (SapPacket("192.0.2.1", 1, foreign() + b"a=x\r\n" * 1_000).encode(), "oversize"),
        (SapPacket("192.0.2.1", 1, foreign(), deletion=True).encode(), "deletion"),
    ):
        assert core.handle(SapArrived(raw, "192.0.2.1"), NOW) == [Count(f"rejected.sap.{cause}")]
