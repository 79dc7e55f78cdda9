"""What the kernel answers: parsed, and what is none refused. The requests are judged in tests/judges/test_xfrm.py."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from mcsa.errors import Rejected
from mcsa.xfrm import netlink
from mcsa.xfrm.layout import Selector
from mcsa.xfrm.netlink import Message, encode_attribute, encode_message
from mcsa.xfrm.operations import AddState, DeleteReported, SetPolicy, encode_operation
from mcsa.xfrm.policy import KernelPolicy, Template, parse_policy
from mcsa.xfrm.state import KernelState, parse_expiry, parse_state
from tests.esp.parts import traffic_key

GROUP = ip_address("239.1.1.1")


def state(group: str = "239.1.1.1") -> KernelState:
    source = "10.9.1.1" if ":" not in group else "fd00::9"
    return KernelState(ip_address(source), ip_address(group), traffic_key(), 0x4D430001, 1024, in_udp=True)


def told(opened: int, dropped: tuple[int, int, int], sent: int, group: str = "239.1.1.1") -> bytes:
    """As the kernel tells of the state: what was told to it, with current values, statistics and XFRMA_REPLAY_VAL."""
    body = bytearray(state(group).encode())
    struct.pack_into("=Q", body, 160 + 8, opened)
    struct.pack_into("=3I", body, 192, *dropped)
    return bytes(body) + encode_attribute(10, struct.pack("=3I", sent, 0, 0))


@pytest.mark.parametrize("group", ["239.1.1.1", "ff18::1:2"])
def test_a_state_is_told_with_what_was_counted(group: str) -> None:
    report = parse_state(told(7, (1, 2, 3), 9, group))
    assert (report.destination, report.spi, report.reqid) == (ip_address(group), state().spi, 0x4D430001)
    assert (report.packets, report.too_old, report.replayed, report.forged, report.sent) == (7, 1, 2, 3, 9)


@pytest.mark.parametrize("is_hard", [True, False])
def test_an_expiry_says_whether_the_state_is_gone(is_hard: bool) -> None:
    report = parse_expiry(told(7, (0, 0, 0), 0)[:224] + bytes((is_hard,)) + bytes(7))
    assert (report.spi, report.is_hard) == (state().spi, is_hard)


def test_a_policy_is_told_and_can_be_deleted_as_it_was_told() -> None:
    policy = KernelPolicy("out", Selector(GROUP, destination_port=1), 9, Template(77, 0x12345678), blocks=True)
    report = parse_policy(policy.encode())
    assert report.destination == GROUP
    assert report.reqid == 77
    assert encode_operation(DeleteReported(report), 5)[16:] == policy.encode_id()
    assert parse_policy(KernelPolicy("in", Selector(GROUP), 9).encode()).reqid is None


def test_a_state_can_be_deleted_as_it_was_told() -> None:
    request = encode_operation(DeleteReported(parse_state(told(0, (0, 0, 0), 0))), 5)
    assert request[16:] == state().encode_id()[:24]


@pytest.mark.parametrize(
    "parse", [lambda: parse_state(bytes(223)), lambda: parse_expiry(bytes(231)), lambda: parse_policy(bytes(167))]
)
def test_what_is_too_short_is_rejected(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(Rejected, match="half"):
        parse()


def test_messages_that_do_not_fit_are_rejected() -> None:
    whole = encode_message(2, 0, 7, bytes(20))
    assert [message.number for message in netlink.parse_messages(whole + whole)] == [7, 7]
    for broken, detail in ((whole[:15], "half"), (whole[:-1], "longer"), (b"\x0f" + whole[1:], "longer")):
        with pytest.raises(Rejected, match=detail):
            list(netlink.parse_messages(broken))
    with pytest.raises(Rejected, match="attribute"):
        netlink.parse_attributes(struct.pack("=HH", 9, 1) + bytes(4))


def test_an_acknowledgement_has_the_error_and_the_kernels_sentence() -> None:
    header = encode_message(0x10, 0, 7, b"")
    sentence = encode_attribute(1, b"Requested AEAD algorithm not found\0")
    capped = Message(netlink.ERROR, netlink.CAPPED | netlink.ACK_TLVS, 7, struct.pack("=i", -38) + header + sentence)
    assert netlink.parse_acknowledgement(capped) == (38, "Requested AEAD algorithm not found")
    request = encode_message(0x10, 0, 7, b"abcd")
    whole = Message(netlink.ERROR, netlink.ACK_TLVS, 7, struct.pack("=i", -17) + request + sentence)
    assert netlink.parse_acknowledgement(whole) == (17, "Requested AEAD algorithm not found")
    assert netlink.parse_acknowledgement(Message(netlink.ERROR, 0, 7, struct.pack("=i", 0) + header)) == (0, "")
    with pytest.raises(Rejected, match="half"):
        netlink.parse_acknowledgement(Message(netlink.ERROR, 0, 7, bytes(19)))


def test_no_key_shows_in_what_is_printed() -> None:
    operations = [AddState(state()), SetPolicy(KernelPolicy("in", Selector(GROUP), 9))]
    assert traffic_key().reveal().hex() not in repr(operations)
    assert repr(traffic_key().reveal()) not in repr(operations)
