"""Updates on a group's own multicast: in datagrams that no network cuts, and whole again at a member.

    SealedUpdate -> GroupMessage(update), where that fits a datagram
                 -> GroupMessage(part 0 of n) ... GroupMessage(part n-1 of n), each with the whole's digest, where not

IP would cut a longer datagram into fragments: all lost where one is, dropped by many networks, and impossible above
65,507 bytes. GDOI (RFC 6407) lets a key server split a long KEK array likewise.

Parts are believed by nobody. On the multicast any member can speak with the Authorizer's sender ID, since
`source_authentication` is "none"; so it can make a whole that never was, or spoil one by a false part under the true
digest, as often as it says so in time. What it can not do: make a member take a false update (`mcsa.updates`), fill its
memory, or keep it from what the repeats and the repair over the bus bring.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from mcsa.errors import Rejected
from mcsa.updates import update_message
from mcsa.v1.authorizer_pb2 import GroupMessage, UpdatePart

# 1,280 bytes pass everywhere: the least MTU of IPv6 (RFC 8200, section 5), so of whatever tunnel. Of these, 40 are for
# the larger IP header, 8 for UDP, 45 for ESP (`mcsa.esp.outbound.packet_size`).
DATAGRAM_MAX = 1_280 - 40 - 8 - 45  # bytes of a GroupMessage
UPDATE_MAX = 256 * 1024  # bytes of an update that goes by multicast; see `services/authorizer/pacing.py`
DIGEST_SIZE = 16  # bytes: who finds another whole of the same digest has done 2^128 hashes
_WIDEST = UpdatePart(
    number=2**64 - 1, index=2**14 - 1, count=2**14 - 1, digest=bytes(DIGEST_SIZE), body=bytes(DATAGRAM_MAX)
)
BODY_MAX = 2 * DATAGRAM_MAX - GroupMessage(part=_WIDEST).ByteSize()  # bytes of an update in one part: 1,146
PARTS_MAX = -(-UPDATE_MAX // BODY_MAX)  # of one update: 229
WHOLES_AT_ONCE = 8  # updates that a member collects: 2 MiB at most


def split_update(number: int, sealed: bytes) -> tuple[bytes, ...]:
    """What to send, in this order or another, so that members have the update: each of at most `DATAGRAM_MAX` bytes.

    ValueError above `UPDATE_MAX`.
    """
    if len(sealed) > UPDATE_MAX:
        raise ValueError(f"{len(sealed)} bytes don't go by multicast")
    whole = update_message(sealed)
    if len(whole) <= DATAGRAM_MAX:
        return (whole,)
    digest = _digest(sealed)
    bodies = [sealed[start : start + BODY_MAX] for start in range(0, len(sealed), BODY_MAX)]
    return tuple(
        GroupMessage(
            part=UpdatePart(number=number, index=index, count=len(bodies), digest=digest, body=body)
        ).SerializeToString()
        for index, body in enumerate(bodies)
    )


class _Whole(NamedTuple):
    number: int
    parts: int
    digest: bytes


class UpdateReassembly:
    """Parts as they arrive, in any order, some twice and some never, of several updates at once.

    At most `WHOLES_AT_ONCE` are collected. Where one more begins, the highest number gives way, since the next update
    is the one that leads on; among those of one number, the one that has waited longest for a part: who wants to keep
    the true one out has to go on for ever.
    """

    def __init__(self) -> None:
        self._bodies: dict[_Whole, dict[int, bytes]] = {}  # those that got a part last come last

    def take(self, part: UpdatePart, wanted: range) -> bytes | None:
        """The SealedUpdate that this part completes; not believed yet. Other numbers than `wanted` are ignored.

        Raises `Rejected`: "part" (lengths or numbers that can't be), "digest" (all parts are there and one of them is
        forged: they are forgotten, and repeats begin anew).
        """
        _check(part)
        for had in [whole for whole in self._bodies if whole.number not in wanted]:
            del self._bodies[had]
        if part.number not in wanted:
            return None
        whole = _Whole(part.number, part.count, part.digest)
        bodies = self._bodies.pop(whole, {})
        bodies.setdefault(part.index, part.body)
        if len(bodies) == whole.parts:
            return _join(whole, bodies)
        self._bodies[whole] = bodies
        if len(self._bodies) > WHOLES_AT_ONCE:
            del self._bodies[max(self._bodies, key=lambda waiting: waiting.number)]
        return None


def _check(part: UpdatePart) -> None:
    if len(part.digest) != DIGEST_SIZE or not 0 < len(part.body) <= BODY_MAX:
        raise Rejected("part", "lengths")
    if not part.index < part.count <= PARTS_MAX:
        raise Rejected("part", f"{part.index} of {part.count}")


def _join(whole: _Whole, bodies: dict[int, bytes]) -> bytes:
    sealed = b"".join(bodies[index] for index in range(whole.parts))
    if _digest(sealed) != whole.digest:
        raise Rejected("digest", f"update {whole.number}")
    return sealed


def _digest(sealed: bytes) -> bytes:
    return hashlib.sha256(sealed).digest()[:DIGEST_SIZE]
