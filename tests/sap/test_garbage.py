"""Whatever a network delivers to the SAP port: it is listed or rejected, and nothing else happens."""

from __future__ import annotations

import random
import re

import pytest

from mcsa.errors import Rejected
from mcsa.networks import Networks
from mcsa.sap.announcement import parse_announcement, split_signature
from mcsa.sap.directory import Directory, Place
from mcsa.sap.packet import SapPacket
from mcsa.sap.scopes import LOCAL
from mcsa.sap.sdp import parse_sdp
from tests.sap.parts import described, foreign
from tests.world import NOW, World, seeded

NUMBERS = (b"-1", b"0", b"256", b"65536", b"4294967296", b"18446744073709551616", b"1" * 40, b"1e9", b"\xd9\xa3")


def taken(sdp: bytes) -> None:
    """As directory and MSM take it; raises whatever is not `Rejected`."""
    made = Directory(Place(Networks.only("198.51.100.1")), seeded(1))
    for deletion in (False, True):
        try:
            made.arrived(SapPacket("192.0.2.1", 7, sdp, deletion).encode(), "192.0.2.1", LOCAL, NOW)
        except Rejected:
            continue
    try:
        session = parse_announcement(sdp)
    except Rejected:
        return
    assert session.SerializeToString()
    split_signature(sdp)
    parse_sdp(sdp)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_that_are_none_or_too_large(world: World, number: bytes):
    """Each run of digits in turn is replaced."""
    for sdp in (described(world), foreign()):
        digits = [place for place in range(len(sdp)) if sdp[place : place + 1].isdigit()]
        starts = [place for place in digits if not sdp[place - 1 : place].isdigit()]
        for start in starts:
            end = start
            while sdp[end : end + 1].isdigit():
                end += 1
            taken(sdp[:start] + number + sdp[end:])


@pytest.mark.parametrize("seed", range(4))
def test_bytes_changed_cut_doubled_and_moved(world: World, seed: int):
    chance = random.Random(seed)
    whole = described(world)
    for _ in range(500):
        sdp = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8))):
            place = chance.randrange(len(sdp))
            match chance.randrange(4):
                case 0:
                    sdp[place] = chance.randrange(256)
                case 1:
                    del sdp[place : place + chance.randrange(40)]
                case 2:
                    sdp[place:place] = sdp[place : place + chance.randrange(60)]
                case 3:
                    lines = bytes(sdp).split(b"\r\n")
                    chance.shuffle(lines)
                    sdp = bytearray(b"\r\n".join(lines))
            if not sdp:
                break
        taken(bytes(sdp))


def test_random_bytes(world: World):
    chance = random.Random(9)
    made = Directory(Place(Networks.only("198.51.100.1")), seeded(1))
    for size in range(300):
        with pytest.raises(Rejected):
            made.arrived(chance.randbytes(size), "192.0.2.1", LOCAL, NOW)


@pytest.mark.parametrize("instead", [b"", b" ", b"\t", b":", b"=", b"/"], ids=repr)
def test_each_word_in_turn_left_out_or_replaced(world: World, instead: bytes):
    for sdp in (
        described(world),
        foreign(),
        foreign() + b"a=mcsa-group:x\r\na=source-filter: incl IN IP4 * 1.2.3.4\r\n",
    ):
        for word in re.finditer(rb"[^\s:=/]+", sdp):
            taken(sdp[: word.start()] + instead + sdp[word.end() :])
