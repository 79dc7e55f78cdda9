"""What a host announces: it goes on, it ends, and nothing that fails is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.endpoint import Answer, Answered, Count, Failed, Refuse, Request, Requested
from mcsa.errors import Refused
from mcsa.sap.announcement import ANNOUNCEMENT_LABEL, describe, split_signature
from mcsa.sap.entry import commitment_of
from mcsa.v1 import msm_pb2 as wire
from mcsa.v1 import sd_pb2 as sd_wire
from mcsa.v1.types_pb2 import POLICY_CLASS_CLOSED, ConferenceDescription, GroupDescription, SessionAnnouncement
from services.msm.announcing import (
    AGAIN_AFTER,
    ANNOUNCED_AT_ONCE,
    ASKED_AGAIN_EACH,
    Announcing,
    Own,
    WithdrawalKey,
)
from tests.world import NOW, World, seeded

CONFERENCE, ADDRESS = bytes(range(16)), "198.51.100.2"
NO_ANSWER = Refused("no-answer", "deadline", "nobody answered")


class Directory:
    """What the directory is asked, and what becomes of it."""

    def __init__(self, world: World, *, recover: bool = False, key: WithdrawalKey | None = None) -> None:
        self.world = world
        self.key = key or WithdrawalKey.draw(seeded(1))
        self.clashes: list[tuple[Own, list[SessionAnnouncement], float]] = []
        self.announcing = Announcing(self.key, "directory", recover=recover, clashed=self._clashed)

    def _clashed(self, own: Own, clashes: Any, announced_at: float, now: float) -> list[Any]:
        self.clashes.append((own, list(clashes), announced_at))
        return []

    def described(self, version: int, conference: bytes = CONFERENCE) -> bytes:
        group = GroupDescription(name="audio", media="audio", format="0", address="239.255.77.1", port=7000, ttl=1)
        return describe(
            ConferenceDescription(title="a talk", policy_class=POLICY_CLASS_CLOSED, ckgds=["bd"]),
            conference,
            [group],
            origin_address=ADDRESS,
            version=version,
            withdrawal=self.announcing.commitment(conference, version),
        )

    def announce(self, version: int = 1, conference: bytes = CONFERENCE, now: float = NOW) -> Any:
        text, alice = self.described(version, conference), self.world.user("alice")
        message = wire.AnnounceSessionRequest(
            unsigned_sdp=text,
            signature=alice.sign(ANNOUNCEMENT_LABEL, text),
            signer_fingerprint=alice.identity.fingerprint,
        )
        (asked,) = self.announcing.announce(self._requested("announce-session", message), now)
        assert isinstance(asked, Request) and asked.verb == "announce"
        return asked

    def withdraw(self, now: float = NOW) -> list[Any]:
        message = wire.WithdrawSessionRequest(conference_id=CONFERENCE)
        return self.announcing.withdraw(self._requested("withdraw-session", message), now)

    def _requested(self, verb: str, message: Any) -> Requested:
        return Requested(verb, self.world.host("alpha").identity, message, verb, b"")

    def answer(self, asked: Request, message: Any = None, now: float = NOW) -> list[Any]:
        empty = {"announce": sd_wire.AnnounceResponse, "withdraw": sd_wire.WithdrawResponse}
        answered = Answered(asked.token, message or empty[asked.verb](), self.world.directory.identity)
        effects = self.announcing.answered(answered, now)
        assert effects is not None
        return effects

    def refuse(self, asked: Request, refused: Refused, now: float = NOW) -> list[Any]:
        effects = self.announcing.failed(Failed(asked.token, refused), now)
        assert effects is not None
        return effects


@pytest.fixture
def directory(world: World) -> Directory:
    return Directory(world)


def opens(asked: Any) -> bool:
    """Whether the secret of a withdrawal is that of the text it is of."""
    return commitment_of(asked.message.secret).encode() in asked.message.sdp


def test_it_is_asked_for_again_until_it_is_withdrawn(directory: Directory) -> None:
    asked = directory.announce()
    assert directory.answer(asked) == [Answer("announce-session", wire.AnnounceSessionResponse())]
    assert directory.announcing.wake_at() == NOW + ASKED_AGAIN_EACH
    (again,) = directory.announcing.woken(NOW + ASKED_AGAIN_EACH)
    assert (again.verb, again.message.sdp) == ("announce", asked.message.sdp)
    assert directory.refuse(again, NO_ANSWER) == [Count("announcement.not-again.no-answer")]
    assert directory.announcing.wake_at() == NOW + 2 * ASKED_AGAIN_EACH
    (withdrawn,) = directory.withdraw()
    assert withdrawn.message.sdp == asked.message.sdp and opens(withdrawn)
    assert directory.answer(withdrawn) == [Answer("withdraw-session", wire.WithdrawSessionResponse())]
    assert directory.announcing.wake_at() is None


def test_a_withdrawal_that_fails_is_told_and_tried_again_with_its_secret(directory: Directory) -> None:
    directory.answer(directory.announce())
    (withdrawn,) = directory.withdraw()
    counted, refuse = directory.refuse(withdrawn, NO_ANSWER)
    assert counted == Count("withdrawal.failed.no-answer") and isinstance(refuse, Refuse)
    assert directory.announcing.wake_at() == NOW + AGAIN_AFTER
    (again,) = directory.announcing.woken(NOW + AGAIN_AFTER)
    assert again.message == withdrawn.message and opens(again)
    assert directory.refuse(again, NO_ANSWER, NOW + 20) == [Count("withdrawal.failed.no-answer")]
    (again,) = directory.announcing.woken(NOW + 2 * AGAIN_AFTER)
    assert directory.answer(again) == []
    assert directory.announcing.wake_at() is None


def test_a_withdrawal_that_can_never_work_is_not_tried_for_ever(directory: Directory) -> None:
    directory.answer(directory.announce())
    (withdrawn,) = directory.withdraw()
    directory.refuse(withdrawn, Refused("withdrawal", "secret", "not the preimage"))
    assert directory.announcing.wake_at() is None


def test_a_newer_description_withdraws_the_older_ones_with_secrets_of_their_own(directory: Directory) -> None:
    first = directory.announce(1)
    directory.answer(first)
    second = directory.announce(2)
    told, withdrawn = directory.answer(second)
    assert isinstance(told, Answer)
    assert withdrawn.message.sdp == first.message.sdp and opens(withdrawn)
    assert withdrawn.message.secret.hex().encode() not in second.message.sdp
    directory.answer(withdrawn)
    (last,) = directory.withdraw()
    assert last.message.sdp == second.message.sdp and last.message.secret != withdrawn.message.secret


def test_what_may_have_been_announced_all_the_same_is_withdrawn(directory: Directory) -> None:
    withdrawn, refuse = directory.refuse(directory.announce(), NO_ANSWER)
    assert withdrawn.verb == "withdraw" and isinstance(refuse, Refuse)
    (refuse,) = directory.refuse(directory.announce(2), Refused("too-many", "directory", "full"))
    assert isinstance(refuse, Refuse)
    directory.answer(withdrawn)
    assert directory.announcing.wake_at() is None


def test_what_has_ended_is_not_asked_for_again(directory: Directory) -> None:
    directory.answer(directory.announce())
    (again,) = directory.announcing.woken(NOW + ASKED_AGAIN_EACH)
    directory.refuse(again, Refused("announcement", "expired", "it has ended"))
    assert directory.announcing.wake_at() is None


def test_an_msm_that_restarted_finds_its_announcements_and_ends_them(world: World, directory: Directory) -> None:
    announced = directory.announce().message.sdp
    stranger = Directory(world, key=WithdrawalKey.draw(seeded(9))).announce().message.sdp
    broken = announced.replace(b"a=mcsa:1 00", b"a=mcsa:1 zz")
    heard = [SessionAnnouncement(sdp=sdp) for sdp in (stranger, b"v=0", broken, announced)]
    restarted = Directory(world, key=directory.key)
    (find,) = restarted.withdraw()
    assert find.verb == "list"
    (withdrawn,) = restarted.answer(find, sd_wire.ListResponse(sessions=heard))
    assert withdrawn.message.sdp == announced and opens(withdrawn)
    assert restarted.answer(withdrawn) == [Answer("withdraw-session", wire.WithdrawSessionResponse())]
    (find,) = restarted.withdraw()
    assert restarted.answer(find, sd_wire.ListResponse()) == [
        Answer("withdraw-session", wire.WithdrawSessionResponse())
    ]
    (find,) = restarted.withdraw()
    (refuse,) = restarted.refuse(find, NO_ANSWER)
    assert isinstance(refuse, Refuse)


def test_an_msm_that_restarted_goes_on_with_its_announcements(world: World, directory: Directory) -> None:
    announced = directory.announce().message.sdp
    restarted = Directory(world, key=directory.key, recover=True)
    assert restarted.announcing.wake_at() == 0.0
    (find,) = restarted.announcing.woken(NOW)
    restarted.refuse(find, NO_ANSWER)
    (find,) = restarted.announcing.woken(NOW + AGAIN_AFTER)
    restarted.answer(find, sd_wire.ListResponse(sessions=[SessionAnnouncement(sdp=announced)]), NOW + AGAIN_AFTER)
    (again,) = restarted.announcing.woken(NOW + AGAIN_AFTER)
    assert (again.verb, again.message.sdp) == ("announce", announced)


def test_an_msm_that_restarted_goes_on_with_nothing_that_borrows_its_commitment(
    world: World, directory: Directory
) -> None:
    """Whoever heard the announcement can announce other texts with the same commitment, as many as it likes."""
    announced = directory.announce().message.sdp
    others = [announced.replace(b"a talk", b"a lie%d" % number) for number in range(ANNOUNCED_AT_ONCE)]
    as_at_the_link = announced.replace(b"\r\n", b"\n")
    heard = [SessionAnnouncement(sdp=sdp) for sdp in (as_at_the_link, announced, *others)]
    restarted = Directory(world, key=directory.key, recover=True)
    (find,) = restarted.announcing.woken(NOW)
    restarted.answer(find, sd_wire.ListResponse(sessions=heard))
    (again,) = restarted.announcing.woken(NOW)
    assert again.message.sdp == announced
    restarted.announce(conference=bytes(16))  # there is room


def test_clashes_are_passed_on(directory: Directory) -> None:
    asked = directory.announce()
    clash = SessionAnnouncement(sdp=b"another", first_heard_ms=5)
    directory.answer(asked, sd_wire.AnnounceResponse(clashes=[clash], announced_ms=round(NOW * 1000)))
    assert [(own.sdp, clashes, at) for own, clashes, at in directory.clashes] == [(asked.message.sdp, [clash], NOW)]


def test_a_host_announces_so_many_at_once(directory: Directory) -> None:
    for number in range(ANNOUNCED_AT_ONCE):
        directory.answer(directory.announce(conference=bytes(15) + bytes([number])))
    with pytest.raises(Refused) as caught:
        directory.announce()
    assert caught.value.code == "too-many"


def test_the_secret_is_not_in_what_is_announced(directory: Directory) -> None:
    asked = directory.announce()
    directory.answer(asked)
    (withdrawn,) = directory.withdraw()
    assert split_signature(asked.message.sdp) is not None
    assert withdrawn.message.secret not in asked.message.sdp
    assert withdrawn.message.secret.hex().encode() not in asked.message.sdp
