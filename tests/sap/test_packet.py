"""SAP packets."""

from __future__ import annotations

import pytest

from mcsa.errors import Rejected
from mcsa.sap.packet import GLOBAL, LOCAL, ORGANISATION, PAYLOAD_TYPE, SapPacket, address_for, parse_packet
from tests.sap.parts import foreign


@pytest.mark.parametrize("origin", ["192.0.2.1", "2001:db8::1"])
@pytest.mark.parametrize("deletion", [False, True])
def test_what_goes_in_comes_out(origin: str, deletion: bool):
    packet = SapPacket(origin, 0x1234, foreign(), deletion)
    assert parse_packet(packet.encode()) == packet


def test_the_bytes_are_those_of_the_rfc():
    raw = SapPacket("192.0.2.1", 0x1234, b"v=0\r\n").encode()
    assert raw == bytes([0x20, 0, 0x12, 0x34, 192, 0, 2, 1]) + b"application/sdp\0v=0\r\n"


def test_authentication_data_is_passed_over_by_words_and_the_payload_type_may_be_missing():
    raw = bytes([0x20, 2, 0x12, 0x34, 192, 0, 2, 1]) + b"12345678" + foreign()
    assert parse_packet(raw).payload == foreign()


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"", "sap"),
        (bytes([0x20, 0, 1]), "sap"),
        (bytes([0x20, 0, 1, 2, 192, 0]), "sap"),
        (bytes([0x20, 200, 1, 2, 192, 0, 2, 1]) + foreign(), "sap"),
        (bytes([0x30, 0, 1, 2, 192, 0, 2, 1]) + b"v=0", "sap"),
        (bytes([0x00, 0, 1, 2, 192, 0, 2, 1]) + foreign(), "sap-version"),
        (bytes([0x40, 0, 1, 2, 192, 0, 2, 1]) + foreign(), "sap-version"),
        (bytes([0x22, 0, 1, 2, 192, 0, 2, 1]) + foreign(), "sap-encrypted"),
        (bytes([0x21, 0, 1, 2, 192, 0, 2, 1]) + foreign(), "sap-compressed"),
        (bytes([0x20, 0, 1, 2, 192, 0, 2, 1]) + b"text/plain\0hello", "sap-payload-type"),
        (bytes([0x20, 0, 1, 2, 192, 0, 2, 1]) + PAYLOAD_TYPE[:-1], "sap-payload-type"),
    ],
)
def test_what_is_no_packet_is_rejected(raw: bytes, cause: str):
    with pytest.raises(Rejected) as caught:
        parse_packet(raw)
    assert caught.value.cause == cause


def test_a_session_is_announced_where_its_scope_is():
    assert address_for("239.255.1.1") == LOCAL
    assert address_for("239.195.1.1") == ORGANISATION
    assert address_for("224.2.200.1") == GLOBAL
    assert address_for("232.1.1.1") == GLOBAL
