import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsa.errors import Rejected
from mcsa.keys import ConferenceKey
from mcsa.sframe import FrameKey, FrameSealer, Header, base_key, parse_header
from tests.world import seeded

BASE = bytes(range(16))
METADATA = bytes.fromhex("4945544620534672616d65205747")
PLAINTEXT = bytes.fromhex("64726166742d696574662d736672616d652d656e63")
FRAME = bytes.fromhex("990123456794f509d36e9beacb0e261d99c7d1e972f1fed787d4049f17ca21353c1cc24d56ceabced279")


def test_rfc_9605_appendix_c_3_suite_5():
    key = FrameKey(BASE, 0x123)
    assert key.seal(0x4567, PLAINTEXT, METADATA) == FRAME
    assert key.open(FRAME, METADATA) == (0x4567, PLAINTEXT)


@pytest.mark.parametrize(
    ("key_id", "counter", "encoded"),
    [
        (0, 0, "00"), (0, 7, "07"), (0, 8, "0808"), (7, 0, "70"), (8, 0, "8008"), (0x123, 0x4567, "9901234567"),
        (255, 256, "89ff0100"), (2**64 - 1, 2**64 - 1, "ff" * 17),
    ],
)  # fmt: skip
def test_headers_of_appendix_c_1(key_id: int, counter: int, encoded: str):
    assert Header(key_id, counter).encode().hex() == encoded
    assert parse_header(bytes.fromhex(encoded) + b"rest") == (Header(key_id, counter), len(encoded) // 2)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_headers_round_trip(key_id: int, counter: int):
    header = Header(key_id, counter)
    assert parse_header(header.encode()) == (header, len(header.encode()))


@given(st.binary(max_size=60))
def test_garbage_is_rejected(raw: bytes):
    with pytest.raises(Rejected):
        FrameKey(BASE, 0x123).open(raw)


def test_every_changed_byte_is_rejected():
    key = FrameKey(BASE, 0x123)
    for position in range(len(FRAME)):
        with pytest.raises(Rejected):
            key.open(FRAME[:position] + bytes([FRAME[position] ^ 1]) + FRAME[position + 1 :], METADATA)
    with pytest.raises(Rejected):
        key.open(FRAME, b"other metadata")


def test_a_process_has_a_key_of_its_own_in_each_epoch():
    key = ConferenceKey.draw(seeded(1))
    keys = {
        base_key(key, "bob", bytes(16), 1), base_key(key, "carol", bytes(16), 1), base_key(key, "bob", bytes(16), 2),
        base_key(key, "bob", bytes([1] * 16), 1), base_key(ConferenceKey.draw(seeded(2)), "bob", bytes(16), 1),
    }  # fmt: skip
    assert len(keys) == 5


def test_a_sealer_never_repeats_a_counter():
    base = base_key(ConferenceKey.draw(seeded(1)), "bob", bytes(16), 1)
    sealer, opener = FrameSealer(base, 9), FrameKey(base, 9)
    assert [opener.open(sealer.seal(b"x")) for _ in range(20)] == [(number, b"x") for number in range(20)]
