"""A member that seals what it likes under another sender's SPI: it has the group key, and so that sender's."""

from __future__ import annotations

import struct

from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.inner import frame_for
from mcsa.esp.suite import suite_named
from services.msm.path import GroupPath


def forge(
    path: GroupPath, domain: str, sender_id: int, sequence: int, payload: bytes, port: int = 5004, epoch: int = 0
) -> bytes:
    """An ESP packet of this sender and number, as far as the group key can tell; `path` is the insider's own."""
    epoch = epoch or max(path._keys)
    suite = suite_named(path.group.policy.suite)
    key = derive_traffic_key(path._keys[epoch], domain, path.group.group_id, epoch, suite, sender_id)
    header = struct.pack(">IIQ", key.spi, sequence, sequence)
    before, after = frame_for(len(payload), port, port)
    return header + key.cipher().encrypt(key.salt + header[8:], before + payload + after, header[:8])


def reopen(path: GroupPath, domain: str, packet: bytes) -> bytes:
    """What a member finds in a packet: inner header, payload and trailer."""
    spi = int.from_bytes(packet[:4], "big")
    for epoch, group_key in path._keys.items():
        suite = suite_named(path.group.policy.suite)
        key = derive_traffic_key(group_key, domain, path.group.group_id, epoch, suite, spi & 0xFFFFF)
        if key.spi == spi:
            return key.cipher().decrypt(key.salt + packet[8:16], packet[16:], packet[:8])
    raise AssertionError("of no epoch that is known")
