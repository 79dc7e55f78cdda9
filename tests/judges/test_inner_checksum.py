"""scapy says whether the inner UDP header has the checksum that a kernel's UDP over IPv6 asks for."""

from __future__ import annotations

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

from mcsa.esp.checksum import InnerChecksum
from mcsa.esp.outbound import OutboundAssociation
from tests.esp.parts import traffic_key

SOURCE, GROUP = "fd00::9", "ff18::1:2"
# odd sizes, none at all, and one whose checksum comes to 0, which has to be sent as 65,535 (RFC 768)
PAYLOADS = (b"", b"a", b"even", bytes(1_399), bytes(range(256)) * 5, b"\xff\xff" * 3)


def checksums(packets: list[bytes]) -> list[tuple[int, int]]:
    """As sealed, and as scapy computes it."""
    key = traffic_key()
    opener = SecurityAssociation(ESP, spi=key.spi, crypt_algo="AES-GCM", crypt_key=key.reveal())
    found = []
    for packet in packets:
        opened = opener.decrypt(IPv6(bytes(IPv6(src=SOURCE, dst=GROUP, nh=50) / Raw(packet))))
        sealed = opened[UDP].chksum
        del opened[UDP].chksum
        found.append((sealed, IPv6(bytes(opened))[UDP].chksum))
    return found


def association() -> OutboundAssociation:
    return OutboundAssociation(traffic_key(), InnerChecksum(SOURCE, GROUP))


def test_each_packet_has_its_own_checksum_one_by_one() -> None:
    sender = association()
    found = checksums([sender.seal(payload, 5004, 5006) for payload in PAYLOADS])
    assert found
    assert all(sealed == computed != 0 for sealed, computed in found)


def test_so_it_has_in_batches() -> None:
    sender = association()
    payloads = [bytes((number,)) * 701 for number in range(20)]
    [batch] = sender.seal_batches(payloads, 5004, 5006)
    size = batch.segment_size
    found = checksums([bytes(batch.view[at : at + size]) for at in range(0, len(batch.view), size)])
    assert all(sealed == computed != 0 for sealed, computed in found)
    assert len({sealed for sealed, _ in found}) == 20


def test_a_checksum_of_zero_is_sent_as_its_other_form() -> None:
    sender, header = association(), bytes.fromhex("138c138e000a0000")
    target = next(
        payload
        for payload in (number.to_bytes(2, "big") for number in range(65_536))
        if InnerChecksum(SOURCE, GROUP).of(header, payload) == b"\xff\xff"
    )
    [(sealed, computed)] = checksums([sender.seal(target, 5004, 5006)])
    assert sealed == computed == 0xFFFF
