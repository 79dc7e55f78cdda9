"""What a directory writes down, and how it takes it in again after a restart (`mcsa.v1.DirectoryState`).

It is believed no more than the network. Each text goes the way that a datagram goes, with the same bounds; what was
heard once before counts as heard once; no moment is later than now, and what would have expired has.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from mcsa.errors import Rejected
from mcsa.sap.directory import Directory
from mcsa.sap.entry import Entry
from mcsa.sap.packet import parse_packet
from mcsa.sap.sdp import parse_sdp
from mcsa.sap.withdrawn import Withdrawal
from mcsa.v1.directory_state_pb2 import (
    DirectoryState,
    HeardAnnouncement,
    OwnAnnouncement,
    WithdrawnAnnouncement,
)

LARGEST_STATE = 8 << 20  # bytes: more than all bounds together allow
_LONGEST_ADDRESS = 45  # characters: an IPv6 address with an IPv4 one in it


def write_state(directory: Directory, now: float) -> bytes:
    """All of it, serialised."""
    cache = directory.cache
    state = DirectoryState(
        announced=[
            OwnAnnouncement(sdp=own.sdp, host=own.host, announced_ms=_ms(own.announced_at), asked_ms=_ms(own.asked_at))
            for own in directory.announced()
        ],
        heard=[_heard(entry) for entry in cache.sessions(now)],
        withdrawn=[
            WithdrawnAnnouncement(
                commitment=each.commitment, source=each.source, lived_ms=_ms(each.lived_for), own=each.own
            )
            for each in cache.withdrawn
        ],
    )
    return state.SerializeToString()


def read_state(directory: Directory, raw: bytes, now: float) -> int:
    """Into a directory that has just begun; how many entries were not taken. Raises `Rejected("state")` where it is no
    state at all: then the directory begins with nothing."""
    if len(raw) > LARGEST_STATE:
        raise Rejected("state", f"{len(raw)} bytes")
    try:
        state = DirectoryState.FromString(raw)
    except DecodeError:
        raise Rejected("state", "malformed") from None
    left_out = 0
    for withdrawn in state.withdrawn:
        source = withdrawn.source[:_LONGEST_ADDRESS]
        directory.cache.withdrawn.add(
            Withdrawal(withdrawn.commitment[:64], source, withdrawn.lived_ms / 1000, withdrawn.own)
        )
    for own in state.announced:
        try:
            directory.go_on(own.sdp, own.host, own.announced_ms / 1000, own.asked_ms / 1000, now)
        except Rejected:
            left_out += 1
    for heard in state.heard:
        try:
            _hear(directory, heard, now)
        except Rejected:
            left_out += 1
    return left_out


def _heard(entry: Entry) -> HeardAnnouncement:
    return HeardAnnouncement(
        datagram=entry.datagram,
        source=entry.source,
        groups=sorted(entry.groups),
        first_heard_ms=_ms(entry.first_heard_at),
        last_heard_ms=_ms(entry.last_heard_at),
        interval_ms=min(round(entry.interval * 1000), 0xFFFF_FFFF),
    )


def _hear(directory: Directory, heard: HeardAnnouncement, now: float) -> None:
    packet = parse_packet(heard.datagram)
    if packet.deletion or len(heard.source) > _LONGEST_ADDRESS or not 1 <= len(heard.groups) <= 64:
        raise Rejected("state", "no announcement that was heard")
    first, last = (min(ms / 1000, now) for ms in (heard.first_heard_ms, heard.last_heard_ms))
    entry = Entry(
        packet,
        heard.source,
        parse_sdp(packet.payload),
        heard.datagram,
        min(first, last),
        last,
        heard.interval_ms / 1000,
        groups={group[:_LONGEST_ADDRESS] for group in heard.groups},
    )
    if now >= directory.cache.expires_at_of(entry):
        raise Rejected("expired", entry.sdp.title[:40])
    directory.cache.hear(entry, now)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
