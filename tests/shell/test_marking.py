"""Traffic class and hop limit through real sockets of both families."""

from __future__ import annotations

import socket

import pytest

from mcsa.shell.marking import CONTROL_SIZE, UNMARKED, Marking, ask_for_markings, read_marking, write_marking


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_what_is_sent_with_a_marking_arrives_with_it(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as listening, socket.socket(family, socket.SOCK_DGRAM) as speaking:
        listening.bind((address, 0))
        ask_for_markings(listening)
        for marking in (Marking(0xB8, 7), Marking(0, 255), Marking(0xFC, 1)):
            speaking.sendmsg((b"x",), write_marking(marking, family), 0, listening.getsockname())
            _, ancillary, flags, _ = listening.recvmsg(10, CONTROL_SIZE)
            assert not flags & socket.MSG_CTRUNC
            assert read_marking(ancillary) == marking


def test_what_does_not_say_is_as_before() -> None:
    assert read_marking([]) == UNMARKED
    assert read_marking([(socket.SOL_SOCKET, 1, b"\1\0\0\0")], Marking(4, 9)) == Marking(4, 9)
