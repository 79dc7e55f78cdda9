"""Mode `tree`: one signature over a hash tree of a block of packets (Wong and Lam 1998, tree chaining, degree 2).

    leaf's place (1 byte) | leaves less 1 (1) | signature of the root (64) | siblings, upwards (32 each) | payload

Each packet verifies alone, whatever else of its block is lost: it carries the way from its leaf to the root, whose
signature is verified once for each block. A block ends with as many packets as the policy says, or when its first one
has waited for as long as the policy says; a source that says little signs each packet on its own, in 66 bytes. So does
one whose packets are nearly as long as the network takes: blocks are as small as it takes for the proofs to fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256

from mcsa.encoding import encode_parts
from mcsa.esp.relayed import Origin
from mcsa.source_authentication.at_once import AtOnce
from mcsa.source_authentication.interface import Block, Content, Promises, Setting, counted
from mcsa.source_authentication.merkle import (
    DIGEST_SIZE,
    LEAF,
    MOST_LEAVES,
    KnownTree,
    build,
    depth_of,
    proofs,
    root_of,
    siblings_of,
)
from mcsa.source_authentication.source_key import SIGNATURE_SIZE, SourceKey, SourcePublicKey
from mcsa.v1.types_pb2 import GroupPolicy

NAME = "tree"
_HEAD = 2 + SIGNATURE_SIZE
ROOM = 1_391
"""Bytes of proof and payload in a packet of 1,500, over IPv6 and behind a relaying agent: 1,500 - 40 (IPv6) - 8 (UDP)
- 16 (SPI, number, IV) - 8 (inner UDP) - 5 (trailer) - 16 (ICV) - 16 (origin)."""
_BLOCKS = 8  # of one source whose packets may be on their way at once; a packet of an older one is verified anew

_SHAPES = {
    bytes((place, leaves - 1)): (place, leaves, _HEAD + DIGEST_SIZE * siblings_of(place, leaves))
    for leaves in range(1, MOST_LEAVES + 1)
    for place in range(leaves)
}
"""What a packet's first two bytes say: its place, how many leaves there are, where the payload begins."""
_BEGINS = {leaves: [_SHAPES[bytes((n, leaves - 1))][2] for n in range(leaves)] for leaves in range(1, MOST_LEAVES + 1)}
_HEADS = {leaves: [bytes((place, leaves - 1)) for place in range(leaves)] for leaves in range(1, MOST_LEAVES + 1)}


@cache
def leaves_beside(size: int) -> int:
    """Of how many packets at most a block with a payload of so many bytes is: its proof has to fit into the packet."""
    return 1 << max(0, min(ROOM - _HEAD - size, DIGEST_SIZE * depth_of(MOST_LEAVES)) // DIGEST_SIZE)


def _signed(begin: bytes, leaves: int, root: bytes) -> bytes:
    return encode_parts(begin, leaves, root)


class _Sender:
    def __init__(self, setting: Setting, key: SourceKey) -> None:
        self._setting = setting
        self._key = key
        self._size = self._most = setting.policy.source_block  # the second: of the block that is open
        self._wait_for = setting.policy.source_block_ms / 1000
        self._open: list[Content] = []
        self._close_at: float | None = None

    def unready(self, now: float) -> str:
        return ""

    def take(self, contents: Sequence[Content], now: float) -> list[Block]:
        if not self._open and (whole := self._whole(contents)):
            return whole
        blocks = []
        for content in contents:
            fitting = min(self._size, leaves_beside(len(content.payload)))
            if self._open and len(self._open) >= fitting:  # in a smaller tree than those that wait
                blocks.append(self._close())
            self._open.append(content)
            self._most = min(self._most, fitting)
            if len(self._open) >= self._most:
                blocks.append(self._close())
        if self._open and (blocks or self._close_at is None):
            self._close_at = now + self._wait_for
        return blocks

    def _whole(self, contents: Sequence[Content]) -> list[Block]:
        """Where nothing waits, and what comes makes whole blocks: those."""
        sizes = {len(content.payload) for content in contents}
        size = min(self._size, leaves_beside(max(sizes, default=0)))
        if len(sizes) != 1 or len(contents) % size:
            return []
        return [Block(contents[start : start + size]) for start in range(0, len(contents), size)]

    def _close(self) -> Block:
        block = Block(self._open)
        self._open, self._most, self._close_at = [], self._size, None
        return block

    def wake_at(self) -> float | None:
        return self._close_at

    def woken(self, now: float) -> list[Block]:
        if self._close_at is None or now < self._close_at:
            return []
        return [self._close()]

    def authenticate(self, block: Block, origins: Sequence[Origin]) -> list[bytes]:
        begin, contents = self._setting.bind(NAME, origins[0]), block.contents
        start = LEAF + begin
        levels = build(
            [
                sha256(b"".join((start, counted(sequence, source_port, destination_port), payload))).digest()
                for (_, _, sequence), (source_port, destination_port, payload) in zip(origins, contents, strict=True)
            ]
        )
        leaves = len(contents)
        signature = self._key.sign(_signed(begin, leaves, levels[-1][0]))
        return [
            b"".join((shape, signature, siblings, content[2]))
            for shape, siblings, content in zip(_HEADS[leaves], proofs(levels), contents)
        ]


class _Receiver(AtOnce):
    def __init__(self, setting: Setting, key: SourcePublicKey) -> None:
        self._setting = setting
        self._key = key
        self._blocks: dict[tuple[bytes, int], KnownTree] = {}  # by size with signature, and epoch; the oldest first
        self._epoch, self._begin = -1, b""
        self._name, self._proves = b"", KnownTree(1, b"").proves  # of the block of the last packet

    def prove(self, origin: Origin, source_port: int, destination_port: int, raw: bytes) -> bytes | str:
        shape = _SHAPES.get(raw[:2])
        if shape is None or len(raw) < shape[2]:
            return "source-malformed"
        place, leaves, start = shape
        _, epoch, sequence = origin
        if epoch != self._epoch:
            self._epoch, self._begin, self._name = epoch, LEAF + self._setting.bind(NAME, origin), b""
        payload = raw[start:]
        said = self._begin, counted(sequence, source_port, destination_port), payload
        leaf = sha256(b"".join(said)).digest()
        if raw[1:_HEAD] != self._name:  # most packets are of the block of the one before
            tree = self._blocks.get((raw[1:_HEAD], epoch))
            if tree is None:
                tree = self._verified((raw[1:_HEAD], epoch), leaves, root_of(place, leaves, leaf, raw[_HEAD:start]))
            if tree is None:
                return "source-signature"
            self._name, self._proves = raw[1:_HEAD], tree.proves
        return payload if self._proves(place, leaf, raw, _HEAD) else "source-signature"

    def prove_all(
        self, first: Origin, source_port: int, destination_port: int, raws: Sequence[bytes]
    ) -> Sequence[bytes | str]:
        """Blocks that came whole are proved as they were made; others, and those that fail, packet by packet."""
        (sender_id, epoch, sequence), ports = first, (source_port, destination_port)
        found, at = list[bytes | str](), 0
        while at < len(raws):
            origin = Origin(sender_id, epoch, sequence + at)
            place, leaves, _ = _SHAPES.get(raws[at][:2], (0, 1, 0))
            is_whole = place == 0 and 1 < leaves <= len(raws) - at
            whole = self._prove_whole(origin, *ports, raws[at : at + leaves]) if is_whole else []
            found += whole or [self.prove(origin, *ports, raws[at])]
            at += len(whole) or 1
        return found

    def _prove_whole(
        self, origin: Origin, source_port: int, destination_port: int, raws: Sequence[bytes]
    ) -> Sequence[bytes]:
        """What was said in a whole block, the first packet of which is `origin`'s; empty where it isn't one."""
        leaves, signature = len(raws), raws[0][2:_HEAD]
        if [raw[:_HEAD] for raw in raws] != [head + signature for head in _HEADS[leaves]]:
            return []
        begin = self._setting.bind(NAME, origin)
        start, first = LEAF + begin, origin.sequence
        payloads = [raw[begins:] for raw, begins in zip(raws, _BEGINS[leaves])]
        hashes = [
            sha256(b"".join((start, counted(number, source_port, destination_port), payload))).digest()
            for number, payload in enumerate(payloads, first)
        ]
        root = build(hashes)[-1][0]
        return payloads if self._key.verifies(signature, _signed(begin, leaves, root)) else []

    def _verified(self, name: tuple[bytes, int], leaves: int, root: bytes) -> KnownTree | None:
        """The tree with this root, where the source signed it."""
        if not self._key.verifies(name[0][1:], _signed(self._begin[1:], leaves, root)):
            return None
        tree = self._blocks[name] = KnownTree(leaves, root)
        if len(self._blocks) > _BLOCKS:
            del self._blocks[next(iter(self._blocks))]
        return tree


class _Tree:
    name = NAME
    title = "one signature over a hash tree of a block of packets"
    promises = Promises(
        authenticates=True, explicit_signatures=True, transferable=True, delay="a block's time, at the source"
    )
    needs_clock = False

    def overhead(self, policy: GroupPolicy) -> int:
        return _HEAD + DIGEST_SIZE * (policy.source_block - 1).bit_length()

    def check(self, policy: GroupPolicy) -> None:
        return None

    def sender(self, setting: Setting, key: SourceKey) -> _Sender:
        return _Sender(setting, key)

    def receiver(self, setting: Setting, sender_id: int, key: SourcePublicKey) -> _Receiver:
        return _Receiver(setting, key)


MODE = _Tree()
