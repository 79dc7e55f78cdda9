"""Tree: blocks by size and time, each packet alone, proofs that lead nowhere."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from mcsa.source_authentication import SourcePublicKey, mode_named
from mcsa.source_authentication.at_once import AtOnce
from mcsa.source_authentication.merkle import DIGEST_SIZE, KnownTree, build, hash_pair, proofs, root_of, siblings_of
from mcsa.source_authentication.tree import ROOM
from tests.source_authentication.parts import START, Source, proved, setting_of, with_payload

TREE = mode_named("tree")
SIZES = (1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 33, 63, 64)


def words(count: int) -> list[bytes]:
    return [f"word {number}".encode() for number in range(count)]


@pytest.mark.parametrize("size", SIZES)
def test_every_packet_of_a_block_verifies_alone(size: int):
    source = Source(TREE, setting_of(TREE, source_block=size))
    claims = source.say(words(size), START)
    assert len(claims) == size
    for number, claim in enumerate(claims):
        assert proved(source.receiver().receive(claim, START)) == [f"word {number}".encode()]


def test_in_whatever_order_they_come():
    source = Source(TREE, setting_of(TREE, source_block=5))
    claims = source.say(words(5), START)
    for order in permutations(claims):
        receiver = source.receiver()
        heard = [payload for claim in order for payload in proved(receiver.receive(claim, START))]
        assert sorted(heard) == words(5)


def test_a_block_ends_by_size_or_by_time():
    source = Source(TREE, setting_of(TREE, source_block=4, source_block_ms=20))
    assert source.say(words(3), START) == [] and source.sender.wake_at() == START + 0.02
    assert source.woken(START + 0.01) == []
    assert len(source.say(words(1), START + 0.01)) == 4
    assert source.sender.wake_at() is None
    assert len(source.say(words(6), START + 1)) == 4
    assert source.sender.wake_at() == START + 1.02
    assert len(source.woken(START + 1.02)) == 2
    assert source.sender.wake_at() is None and source.woken(START + 5) == []


def test_a_signature_is_verified_once_for_a_block(monkeypatch: pytest.MonkeyPatch):
    source = Source(TREE, setting_of(TREE))
    claims, receiver, verified = source.say(words(64), START), source.receiver(), list[bytes]()
    verifies = SourcePublicKey.verifies

    def counted(key: SourcePublicKey, signature: bytes, message: bytes) -> bool:
        verified.append(signature)
        return verifies(key, signature, message)

    monkeypatch.setattr(SourcePublicKey, "verifies", counted)
    assert len([claim for claim in claims if proved(receiver.receive(claim, START))]) == 64
    assert len(verified) == 1


def test_a_leaf_in_anothers_place_is_not_believed():
    source = Source(TREE, setting_of(TREE, source_block=8))
    claims = source.say(words(8), START)
    for place in range(1, 8):
        raw = claims[0].payload
        moved = with_payload(claims[0], bytes([place]) + raw[1:])
        for receiver in (source.receiver(), source.receiver()):
            receiver.receive(claims[3], START)
            assert not proved(receiver.receive(moved, START))


def test_a_node_can_not_pass_as_a_leaf_nor_a_block_as_a_smaller_one():
    """What was said is two packets; who takes the root's children for leaves has to find other bytes for them."""
    source = Source(TREE, setting_of(TREE, source_block=4))
    claims = source.say(words(4), START)
    raw = claims[0].payload
    shorter = bytes([0, 1]) + raw[2:66] + raw[66 + DIGEST_SIZE :]
    (verdict,) = source.receiver().receive(with_payload(claims[0], shorter), START)
    assert verdict.cause == "source-signature"


@pytest.mark.parametrize("size", SIZES)
def test_trees_of_every_size(size: int):
    leaves = [bytes([number]) * DIGEST_SIZE for number in range(size)]
    levels = build(leaves)
    (root,) = levels[-1]
    for place, (leaf, siblings) in enumerate(zip(leaves, proofs(levels))):
        assert len(siblings) == DIGEST_SIZE * siblings_of(place, size)
        assert root_of(place, size, leaf, siblings) == root
        known = KnownTree(size, root)
        assert not known.proves(place, bytes(31) + b"\xff", siblings)
        assert known.proves(place, leaf, siblings)
        assert not known.proves(place, bytes(31) + b"\xff", siblings)


def test_two_leaves_by_hand():
    one, other = b"a" * 32, b"b" * 32
    assert build([one, other]) == [[one, other], [hash_pair(one, other)]]
    assert build([one, other, one])[-1] == [hash_pair(hash_pair(one, other), one)]


@pytest.mark.parametrize(
    ("size", "leaves"), [(0, 64), (1_000, 64), (1_133, 64), (1_134, 32), (1_293, 2), (1_294, 1), (1_325, 1), (9_000, 1)]
)
def test_blocks_are_as_small_as_it_takes_for_the_proof_to_fit_into_a_packet(size: int, leaves: int):
    source = Source(TREE, setting_of(TREE))
    claims = source.say([bytes(size)] * 64, START) + source.woken(START + 1)
    assert {claim.payload[1] + 1 for claim in claims} == {leaves}
    longest = max(len(claim.payload) for claim in claims)
    assert longest <= ROOM or leaves == 1


def test_a_long_payload_closes_the_block_of_short_ones_that_wait():
    source = Source(TREE, setting_of(TREE))
    said = [b"a", b"b", bytes(1_290), b"c", bytes(1_325), b"d"]
    claims = source.say(said, START) + source.woken(START + 1)
    assert [claim.payload[1] + 1 for claim in claims] == [2, 2, 2, 2, 1, 1]
    receiver = source.receiver()
    assert [word for claim in claims for word in proved(receiver.receive(claim, START))] == said


@pytest.mark.parametrize("seed", range(30))
def test_what_comes_together_is_proved_as_what_comes_one_by_one(seed: int):
    """Whole blocks, parts of blocks, forged packets among them, others of another block."""
    chance = random.Random(seed)
    source = Source(TREE, setting_of(TREE, source_block=chance.choice([2, 5, 8, 64])))
    claims = source.say(words(chance.randrange(1, 150)), START) + source.woken(START + 1)
    start = chance.randrange(len(claims))
    together = claims[start : start + chance.randrange(1, 100)]
    for _ in range(chance.choice([0, 0, 1, 3])):
        place = chance.randrange(len(together))
        raw = bytearray(together[place].payload)
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        together[place] = with_payload(together[place], bytes(raw))
    first, *_ = together
    receivers = [TREE.receiver(source.setting, source.sender_id, source.public) for _ in range(2)]
    assert all(isinstance(receiver, AtOnce) for receiver in receivers)
    all_at_once, each_alone = receivers
    found = all_at_once.prove_all(*first[:3], [claim.payload for claim in together])  # type: ignore[attr-defined]
    alone = [each_alone.prove(*claim[:4]) for claim in together]  # type: ignore[attr-defined]
    assert [word if isinstance(word, bytes) else "forged" for word in found] == [
        word if isinstance(word, bytes) else "forged" for word in alone
    ]
