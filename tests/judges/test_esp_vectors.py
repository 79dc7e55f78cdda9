"""Published packets: draft-mcgrew-gcm-test-01 (AES-GCM in ESP, RFC 4106) and RFC 7634 appendix A (ChaCha20-Poly1305).

Left out are those that we have no use for: 24-byte keys, and 12 bytes of associated data (extended sequence numbers,
which groups never have: RFC 9838). What is inside is a datagram of a tunnel, or none at all: never UDP in transport
mode, so a receiver of ours finds each authentic, and refuses it for its inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mcsa.errors import Rejected
from mcsa.esp import inbound as opening
from mcsa.esp.derive import TrafficKey
from mcsa.esp.inbound import InboundAssociations
from mcsa.esp.spi import EPOCH_TAGS, split_spi
from mcsa.esp.suite import suite_named
from tests.esp.parts import DOMAIN, GROUP_ID, KEY, SOURCE, open_together


@dataclass(frozen=True)
class Published:
    """A packet and all that it was made of."""

    name: str
    suite: str
    keymat: bytes  # key and salt
    header: bytes  # SPI, sequence number, IV
    plaintext: bytes
    sealed: bytes  # ciphertext and ICV

    @property
    def key(self) -> TrafficKey:
        return TrafficKey(self.keymat, suite_named(self.suite), int.from_bytes(self.header[:4], "big"))

    @property
    def packet(self) -> bytes:
        return self.header + self.sealed


def _published(name: str, suite: str, key: str, nonce: str, associated: str, plaintext: str, sealed: str) -> Published:
    salt, iv = nonce[:8], nonce[8:]
    return Published(
        name, suite, *map(bytes.fromhex, (key + salt, associated + iv, plaintext, sealed.replace(" ", "")))
    )


ZEROS, LONG = "00" * 16, "abbccddef00112233445566778899aababbccddef00112233445566778899aab"
PUBLISHED = [
    _published(
        "udp-128",
        "aes-128-gcm",
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "0000a5f80000000a",
        "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000037369700963796265726369747902646b"
        "00000100010001",
        "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec"
        "3b9ba95d918bd1 83b70d3aa8bc6ee4c309e9d85a41ad4a",
    ),
    _published(
        "tcp-256",
        "aes-256-gcm",
        LONG,
        "112233440102030405060708",
        "4a2cbfe300000002",
        "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8e"
        "b335f4eecfdbf831824b4c4915956c96",
    ),
    _published(
        "zeros-128",
        "aes-128-gcm",
        ZEROS,
        "00" * 12,
        "0000000000000001",
        "4500003c99c500008001cb7a40679318010101010800075c020044006162636465666768696a6b6c6d6e6f70717273747576776162636465"
        "6667686901020201",
        "4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284456476492719ffb64de7d9dca1e1d894bc3bd57873ed4d18"
        "1d19d4d5c8c18af3 f821d496eeb096e98ad2b69e4799c71d",
    ),
    _published(
        "trailer-only-128",
        "aes-128-gcm",
        "7d773d00c144c525ac619d18c84a3f47",
        "d966426743457e9182443bc6",
        "335467aeffffffff",
        "01020201",
        "437f866b cb3f699fe9b0822bac961c4504bef270",
    ),
    _published(
        "rfc7634",
        "chacha20-poly1305",
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        "a0a1a2a31011121314151617",
        "0102030400000005",
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f101112131415161718191a1b"
        "1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363701020204",
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9"
        "befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e0 76aaa8266b7fb0f7b11b369907e1ad43",
    ),
]
published = pytest.mark.parametrize("vector", PUBLISHED, ids=lambda vector: vector.name)


@published
def test_nonce_and_associated_data_are_laid_out_as_published(vector: Published) -> None:
    key, associated, iv = vector.key, vector.header[:8], vector.header[8:]
    assert key.cipher().encrypt(key.salt + iv, vector.plaintext, associated) == vector.sealed
    assert key.cipher().decrypt(key.salt + iv, vector.sealed, associated) == vector.plaintext


def receiver_of(vector: Published, monkeypatch: pytest.MonkeyPatch) -> InboundAssociations:
    """A receiver that derives the published key for the published SPI."""
    tag, sender_id = split_spi(vector.key.spi)
    monkeypatch.setattr(opening, "derive_traffic_key", lambda *_: vector.key)
    made = InboundAssociations(DOMAIN, GROUP_ID, suite_named(vector.suite))
    made.install(EPOCH_TAGS + tag - 1, KEY)
    made.set_roster({sender_id: SOURCE})
    return made


OURS = [v for v in PUBLISHED if split_spi(v.key.spi)[0] and len(v.plaintext) > 4]


@pytest.mark.parametrize("vector", OURS, ids=lambda vector: vector.name)
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
def test_a_receiver_finds_them_authentic(vector: Published, together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = receiver_of(vector, monkeypatch)

    def cause(packet: bytes) -> str:
        if together:
            [found] = open_together(receiver, [packet]).rejected
            return found
        with pytest.raises(Rejected) as rejected:
            receiver.open(packet, SOURCE)
        return rejected.value.cause

    for place in range(8, len(vector.packet)):
        broken = bytearray(vector.packet)
        broken[place] ^= 0x80
        assert cause(bytes(broken)) == "integrity"
    assert cause(vector.packet) == "inner"
    assert cause(vector.packet) == "replay"


def test_what_has_no_room_for_a_datagram_is_not_even_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    [vector] = [each for each in PUBLISHED if each.name == "trailer-only-128"]
    with pytest.raises(Rejected, match="short"):
        receiver_of(vector, monkeypatch).open(vector.packet, SOURCE)
