"""What one process makes of the datagrams of others, honest or not."""

from __future__ import annotations

import pytest

from mcsa.authority import CertificationAuthority
from mcsa.control.fragments import verify_fragment
from mcsa.control.peers import DROPPED_MAX, STREAMS_MAX
from mcsa.control.reassembly import WINDOW
from mcsa.control.streams import STATUS_IDLE_FOR, STATUS_LATEST, ControlStreams, Delivered, Equivocated
from mcsa.errors import Rejected
from mcsa.v1.conference_pb2 import ControlMessage, Fragment
from tests.control.parts import CONFERENCE, PROCESS, changed, introduction, message, piece, sealed, status
from tests.world import NOW, World, seeded

OWN = b"o" * 16


class Hearing:
    """Bob's streams; Ann is the other."""

    def __init__(self, world: World, *, active: bool = True):
        self.ann, self.bob, self.eve = (world.user(name) for name in ("ann", "bob", "eve"))
        self.barred: set[str] = set()
        self.trust = world.trust()
        self.now = NOW
        self.streams = ControlStreams(
            CONFERENCE, self.bob, OWN, self.trust, lambda user: user not in self.barred, seeded(1), NOW, active=active
        )

    def take(self, *datagrams: bytes) -> list[Delivered | Equivocated]:
        return [item for datagram in datagrams for item in self.streams.datagram_arrived(datagram, self.now)]

    def cause(self, datagram: bytes) -> str:
        with pytest.raises(Rejected) as rejected:
            self.take(datagram)
        return rejected.value.cause

    def positions(self) -> dict[bytes, int]:
        return {position.process_id: position.sequence for position in self.streams.positions()}

    def next_status(self) -> ControlMessage:
        """What is told next, and nothing else with it."""
        self.streams.outgoing()
        at = self.streams.wake_at()
        assert at is not None
        self.now = max(self.now, at)
        self.streams.due(self.now)
        (told,) = [piece for piece in map(Fragment.FromString, self.streams.outgoing()) if piece.sequence == 0]
        return ControlMessage.FromString(told.body)


@pytest.fixture
def hearing(world: World) -> Hearing:
    return Hearing(world)


def test_introduction_is_the_first(hearing: Hearing):
    mine = hearing.streams.introduction
    assert (mine.user, mine.process_id, mine.sequence) == (str(hearing.bob.id), OWN, 1)
    assert mine.message.introduction.time_ms == NOW * 1000
    assert [Fragment.FromString(datagram) for datagram in hearing.streams.outgoing()] == list(mine.fragments)
    assert hearing.streams.outgoing() == []


def test_own_messages_are_as_the_others_get_them(world: World, hearing: Hearing):
    other = ControlStreams(CONFERENCE, hearing.ann, PROCESS, world.trust(), lambda _: True, seeded(2), NOW)
    mine = [hearing.streams.introduction, hearing.streams.send(ControlMessage.FromString(sealed(bytes(5_000))), NOW)]
    heard = [item for datagram in hearing.streams.outgoing() for item in other.datagram_arrived(datagram, NOW)]
    assert heard == mine


def test_delivered_in_order(hearing: Hearing):
    first, second, third = (
        message(hearing.ann, number, raw)
        for number, raw in (
            (1, introduction()),
            (2, sealed(b"two")),
            (3, sealed(b"three")),
        )
    )
    assert [item.sequence for item in hearing.take(*first, *third, *second) if isinstance(item, Delivered)] == [1, 2, 3]
    assert hearing.positions() == {OWN: 1, PROCESS: 3}


def test_delivered_says_who(hearing: Hearing):
    (one,) = hearing.take(*message(hearing.ann, 1, introduction()))
    assert isinstance(one, Delivered)
    assert (one.user, one.process_id, one.raw) == (str(hearing.ann.id), PROCESS, introduction())
    assert one.certificate == hearing.ann.chain[0]
    assert list(one.fragments[0].certificate_chain) == list(hearing.ann.chain)


def test_duplicates_are_ignored_unverified(hearing: Hearing):
    """An exact copy with a broken signature shows that none was verified: there is nothing to learn from it."""
    (datagram,) = message(hearing.ann, 1, introduction())
    assert len(hearing.take(datagram, datagram, datagram)) == 1
    assert hearing.take(changed(datagram, signature=bytes(64))) == []


def test_what_is_too_new_is_left_for_later(hearing: Hearing):
    hearing.take(*message(hearing.ann, 1, introduction()))
    assert hearing.take(*message(hearing.ann, 2 + WINDOW, sealed(b"far"))) == []
    assert hearing.take(*message(hearing.ann, 1 + WINDOW, sealed(b"near"))) == []
    assert hearing.positions()[PROCESS] == 1


# ---- what is rejected


def test_garbage(hearing: Hearing):
    assert hearing.cause(b"garbage") == "fragment"


def test_another_conference(hearing: Hearing):
    (datagram,) = message(hearing.ann, 1, introduction())
    assert hearing.cause(changed(datagram, conference_id=b"d" * 16)) == "conference"


def test_not_permitted(hearing: Hearing):
    hearing.barred.add(str(hearing.ann.id))
    assert hearing.cause(*message(hearing.ann, 1, introduction())) == "not-permitted"


def test_ejected_in_mid_stream(hearing: Hearing):
    hearing.take(*message(hearing.ann, 1, introduction()))
    hearing.barred.add(str(hearing.ann.id))
    assert hearing.cause(*message(hearing.ann, 2, sealed(b"more"))) == "not-permitted"


def test_wrong_signature(hearing: Hearing):
    (datagram,) = message(hearing.ann, 1, introduction())
    assert hearing.cause(changed(datagram, signature=bytes(64))) == "signature"
    hearing.take(datagram)
    (second,) = message(hearing.ann, 2, sealed(b"text"))
    assert hearing.cause(changed(second, body=sealed(b"evil"))) == "signature"


def test_a_name_that_is_anothers(hearing: Hearing):
    (datagram,) = message(hearing.eve, 1, introduction())
    assert hearing.cause(changed(datagram, user=str(hearing.ann.id))) == "user"


def test_a_stream_that_is_anothers(hearing: Hearing):
    hearing.take(*message(hearing.ann, 1, introduction()))
    assert hearing.cause(*message(hearing.eve, 2, sealed(b"text"))) == "foreign-stream"
    assert hearing.cause(*message(hearing.eve, 1, introduction())) == "foreign-stream"


def test_our_stream_is_ours(hearing: Hearing):
    assert hearing.cause(*message(hearing.eve, 2, sealed(b"text"), process_id=OWN)) == "foreign-stream"
    assert hearing.take(*hearing.streams.outgoing()) == []


def test_a_stream_without_its_beginning(hearing: Hearing):
    assert hearing.cause(*message(hearing.ann, 2, sealed(b"text"))) == "unknown-stream"


def test_a_certificate_of_a_foreign_authority(hearing: Hearing):
    foreign = CertificationAuthority.create("example.org", NOW).issue("user", "ann", NOW)
    assert hearing.cause(*message(foreign, 1, introduction())) == "certificate"


def test_a_chain_that_is_none(hearing: Hearing):
    (datagram,) = message(hearing.ann, 1, introduction())
    assert hearing.cause(changed(datagram, certificate_chain=[b"no certificate"])) == "certificate"


def test_an_expired_certificate_even_in_mid_stream(hearing: Hearing, world: World):
    brief = world.authority.issue("user", "brief", NOW, days=1)
    hearing.take(*message(brief, 1, introduction()))
    hearing.now += 86_400 + 600
    assert hearing.cause(*message(brief, 2, sealed(b"text"))) == "certificate"
    assert hearing.cause(*message(brief, 1, introduction(), process_id=b"q" * 16)) == "certificate"


def test_a_revoked_certificate_in_mid_stream(hearing: Hearing, world: World):
    hearing.take(*message(hearing.ann, 1, introduction()))
    hearing.trust.revoke(world.authority.revoke([hearing.ann.certificate.serial_number], NOW))
    assert hearing.cause(*message(hearing.ann, 2, sealed(b"text"))) == "revoked"


def test_a_host_is_no_user(hearing: Hearing, world: World):
    host = world.host("ann")
    (datagram,) = message(host, 1, introduction())
    assert hearing.cause(datagram) == "kind"
    assert hearing.cause(changed(datagram, user=str(hearing.ann.id))) == "kind"


def test_another_certificate_in_mid_stream(hearing: Hearing, world: World):
    hearing.take(*message(hearing.ann, 1, introduction()))
    renewed = world.authority.issue("user", "ann", NOW)
    assert hearing.cause(piece(renewed, 0, status(1))) == "certificate"


def test_what_reassembly_rejects_comes_through(hearing: Hearing):
    hearing.take(*message(hearing.ann, 1, introduction()), piece(hearing.ann, 2, b"a", 0, 2))
    assert hearing.cause(piece(hearing.ann, 2, b"b", 1, 3)) == "count"
    assert hearing.cause(piece(hearing.ann, 3, b"\xff\xff")) == "message"


def test_no_status(hearing: Hearing):
    assert hearing.cause(piece(hearing.ann, 0, sealed(b"text"))) == "status"


# ---- equivocation


def evidence_of(items: list[Delivered | Equivocated]) -> tuple[Fragment, ...]:
    (one,) = items
    assert isinstance(one, Equivocated)
    return one.evidence


@pytest.mark.parametrize("other", [(b"other", 0, 1), (sealed(b"one thing"), 0, 2)])
def test_two_things_at_one_place(hearing: Hearing, other: tuple[bytes, int, int]):
    hearing.take(*message(hearing.ann, 1, introduction()), piece(hearing.ann, 2, sealed(b"one thing")))
    first, second = evidence_of(hearing.take(piece(hearing.ann, 2, *other)))
    assert list(first.certificate_chain) == list(hearing.ann.chain)
    for fragment in (first, second):
        verify_fragment(fragment, first.certificate_chain[0])
    assert (first.process_id, first.sequence, first.index) == (second.process_id, second.sequence, second.index)
    assert (first.body, first.count) != (second.body, second.count)


def test_two_things_before_the_message_is_complete(hearing: Hearing):
    hearing.take(*message(hearing.ann, 1, introduction()), piece(hearing.ann, 3, b"a", 1, 2))
    assert len(evidence_of(hearing.take(piece(hearing.ann, 3, b"b", 1, 2)))) == 2


def test_evidence_is_given_once_and_the_stream_goes_on(hearing: Hearing):
    hearing.take(*message(hearing.ann, 1, introduction()), piece(hearing.ann, 2, sealed(b"one thing")))
    evidence_of(hearing.take(piece(hearing.ann, 2, sealed(b"another"))))
    assert hearing.cause(piece(hearing.ann, 2, sealed(b"a third"))) == "equivocation"
    assert len(hearing.take(*message(hearing.ann, 3, sealed(b"more")))) == 1


def test_nobody_can_be_made_an_equivocator(hearing: Hearing):
    (datagram,) = message(hearing.ann, 1, introduction())
    hearing.take(datagram)
    assert hearing.cause(changed(datagram, body=b"other")) == "signature"
    assert hearing.cause(changed(datagram, count=2)) == "signature"


def test_another_signature_of_the_same_is_no_equivocation(hearing: Hearing):
    assert len(hearing.take(piece(hearing.ann, 1, introduction()), piece(hearing.ann, 1, introduction()))) == 1


# ---- bounds


def test_streams_of_a_user_are_few_and_dropped_ones_stay_away(hearing: Hearing):
    ids = [bytes([number]) * 16 for number in range(STREAMS_MAX + 1)]
    for process_id in ids:
        hearing.now += 0.01
        hearing.take(*message(hearing.ann, 1, introduction(), process_id=process_id))
    assert set(hearing.positions()) == {OWN, *ids[1:]}
    assert hearing.cause(*message(hearing.ann, 1, introduction(), process_id=ids[0])) == "dropped-stream"
    assert len(hearing.take(*message(hearing.eve, 1, introduction()))) == 1


def test_dropped_ids_are_bounded(hearing: Hearing):
    first = b"first" + bytes(11)
    for process_id in [first, *(number.to_bytes(16, "big") for number in range(1, DROPPED_MAX + 1))]:
        hearing.take(*message(hearing.ann, 1, introduction(), process_id=process_id))
        hearing.streams.forget(str(hearing.ann.id))
    assert len(hearing.take(*message(hearing.ann, 1, introduction(), process_id=first))) == 1


def test_forgotten_users_streams_are_gone(hearing: Hearing):
    hearing.take(*message(hearing.ann, 1, introduction()), *message(hearing.eve, 1, introduction(), b"e" * 16))
    hearing.streams.forget(str(hearing.ann.id))
    assert hearing.positions() == {OWN: 1, b"e" * 16: 1}
    assert hearing.streams.heard_at(str(hearing.ann.id)) is None
    assert hearing.cause(*message(hearing.ann, 2, sealed(b"text"))) == "dropped-stream"


# ---- Status


def test_status_tells_what_is_there(hearing: Hearing):
    hearing.take(*message(hearing.ann, 1, introduction()))
    told = hearing.next_status().status
    assert hearing.now <= NOW + STATUS_LATEST
    assert told.oldest == 1
    assert {position.process_id: position.sequence for position in told.positions} == {OWN: 1, PROCESS: 1}


def test_status_when_idle(hearing: Hearing):
    hearing.next_status()
    before = hearing.now
    hearing.next_status()
    assert 0.8 * STATUS_IDLE_FOR <= hearing.now - before <= 1.2 * STATUS_IDLE_FOR


def test_a_lost_tail_is_answered(hearing: Hearing):
    hearing.take(*message(hearing.ann, 1, introduction()))
    hearing.next_status()
    hearing.now += 1
    hearing.take(piece(hearing.ann, 0, status(3, o=1)))
    before = hearing.now
    hearing.next_status()
    assert hearing.now - before <= STATUS_LATEST


def test_nothing_is_repeated_where_nothing_lacks(hearing: Hearing):
    hearing.take(*message(hearing.ann, 1, introduction()), piece(hearing.ann, 0, status(1, o=1)))
    hearing.streams.outgoing()
    hearing.streams.due(NOW + 3)
    assert all(Fragment.FromString(datagram).sequence == 0 for datagram in hearing.streams.outgoing())


@pytest.mark.parametrize("others", [{}, {"o": 0}, {"a": 3, "z": 3}])
def test_what_a_peer_lacks_is_repeated(hearing: Hearing, others: dict[str, int]):
    hearing.take(piece(hearing.ann, 0, status(1, 1, PROCESS, **others)))
    hearing.streams.outgoing()
    hearing.streams.due(NOW + 3)
    sequences = [Fragment.FromString(datagram).sequence for datagram in hearing.streams.outgoing()]
    assert sequences == [0, 1]


def test_an_old_status_does_no_harm(hearing: Hearing):
    hearing.take(piece(hearing.ann, 0, status(1, number=2, o=1)))
    for number in (1, 2):  # overtaken; played again
        with pytest.raises(Rejected) as caught:
            hearing.take(piece(hearing.ann, 0, status(1, number=number)))
        assert caught.value.cause == "old-status"
    hearing.streams.outgoing()
    hearing.streams.due(NOW + 3)
    assert [Fragment.FromString(datagram).sequence for datagram in hearing.streams.outgoing()] == [0]


def test_a_stream_begins_where_its_sender_still_has_it(hearing: Hearing):
    """The first message delivered carries the chain, so that a record that begins late can be verified."""
    hearing.take(piece(hearing.ann, 0, status(8, oldest=7)))
    (one,) = hearing.take(*message(hearing.ann, 7, sealed(b"seven")))
    (two,) = hearing.take(*message(hearing.ann, 8, sealed(b"eight")))
    assert isinstance(one, Delivered) and isinstance(two, Delivered)
    assert (one.sequence, two.sequence) == (7, 8)
    assert list(one.fragments[0].certificate_chain) == list(hearing.ann.chain)
    assert not two.fragments[0].certificate_chain
    verify_fragment(one.fragments[0], one.certificate)


def test_who_is_behind_skips_forward(hearing: Hearing):
    hearing.take(*message(hearing.ann, 1, introduction()), *message(hearing.ann, 5, sealed(b"five")))
    (one,) = hearing.take(piece(hearing.ann, 0, status(5, oldest=5)))
    assert isinstance(one, Delivered) and one.sequence == 5
    assert hearing.take(*message(hearing.ann, 3, sealed(b"three"))) == []


def test_settled(hearing: Hearing):
    ann = str(hearing.ann.id)
    assert not hearing.streams.settled([ann])  # our own Status wasn't told
    hearing.next_status()
    assert hearing.streams.settled([ann])
    hearing.take(piece(hearing.ann, 0, status(0)))
    hearing.next_status()
    assert not hearing.streams.settled([ann])
    assert hearing.streams.settled([str(hearing.eve.id)])
    hearing.take(piece(hearing.ann, 0, status(0, number=1, o=1)))
    assert hearing.streams.settled([ann])
    hearing.streams.send(ControlMessage.FromString(sealed(b"more")), hearing.now)
    assert not hearing.streams.settled([ann])
    hearing.take(piece(hearing.ann, 0, status(0, number=2, o=999)))
    hearing.streams.send(ControlMessage.FromString(sealed(b"even more")), hearing.now)
    assert not hearing.streams.settled([ann])
    hearing.streams.due(hearing.now + 21)  # of whom nothing was heard for so long
    assert hearing.streams.settled([ann])


def test_heard_at(hearing: Hearing):
    ann = str(hearing.ann.id)
    assert hearing.streams.heard_at(ann) is None
    hearing.take(*message(hearing.ann, 1, introduction()))
    hearing.now += 5
    hearing.take(piece(hearing.ann, 0, status(1)))
    assert hearing.streams.heard_at(ann) == NOW + 5


# ---- one that only hears


def test_one_that_only_hears_says_nothing(world: World):
    hearing = Hearing(world, active=False)
    assert len(hearing.take(*message(hearing.ann, 1, introduction()), piece(hearing.ann, 0, status(3)))) == 1
    assert hearing.streams.wake_at() is None
    hearing.streams.due(NOW + 100)
    assert hearing.streams.outgoing() == []
    assert hearing.positions() == {PROCESS: 1}
    with pytest.raises(ValueError, match="send nothing"):
        hearing.streams.send(ControlMessage(), NOW)
    with pytest.raises(ValueError, match="no introduction"):
        _ = hearing.streams.introduction
