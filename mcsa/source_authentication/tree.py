"""Mode `tree`: one signature over a hash tree of a block of packets (Wong and Lam 1998, tree chaining, degree 2).

    leaf's place (1 byte) | leaves less 1 (1) | signature of the root (64) | siblings, upwards (32 each) | payload

Each packet verifies alone, whatever else of its block is lost: it carries the way from its leaf to the root, whose
signature is verified once for each block. A block ends with as many packets as the policy says, or when its first one
has waited for as long as the policy says; a source that says little signs each packet on its own, in 66 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    proofs,
    root_of,
    siblings_of,
)
from mcsa.source_authentication.source_key import SIGNATURE_SIZE, SourceKey, SourcePublicKey
from mcsa.v1.types_pb2 import GroupPolicy

NAME = "tree"
_HEAD = 2 + SIGNATURE_SIZE
_BLOCKS = 8  # of one source whose packets may be on their way at once; a packet of an older one is verified anew

_SHAPES = {
    bytes((place, leaves - 1)): (place, leaves, _HEAD + DIGEST_SIZE * siblings_of(place, leaves))
    for leaves in range(1, MOST_LEAVES + 1)
    for place in range(leaves)
}
"""What a packet's first two bytes say: its place, how many leaves there are, where the payload begins."""


def _signed(begin: bytes, leaves: int, root: bytes) -> bytes:
    return encode_parts(begin, leaves, root)


class _Sender:
    def __init__(self, setting: Setting, key: SourceKey) -> None:
        self._setting = setting
        self._key = key
        self._size = setting.policy.source_block
        self._wait_for = setting.policy.source_block_ms / 1000
        self._open: list[Content] = []
        self._close_at: float | None = None

    def unready(self, now: float) -> str:
        return ""

    def take(self, contents: Sequence[Content], now: float) -> list[Block]:
        waiting = [*self._open, *contents]
        whole = len(waiting) - len(waiting) % self._size
        blocks = [Block(waiting[start : start + self._size]) for start in range(0, whole, self._size)]
        self._open = waiting[whole:]
        if not self._open:
            self._close_at = None
        elif blocks or self._close_at is None:
            self._close_at = now + self._wait_for
        return blocks

    def wake_at(self) -> float | None:
        return self._close_at

    def woken(self, now: float) -> list[Block]:
        if self._close_at is None or now < self._close_at:
            return []
        block = Block(self._open)
        self._open, self._close_at = [], None
        return [block]

    def authenticate(self, block: Block, origins: Sequence[Origin]) -> list[bytes]:
        begin = self._setting.bind(NAME, origins[0])
        start, contents = LEAF + begin, block.contents
        levels = build(
            [
                sha256(start + counted(origin.sequence, *content[:2]) + content.payload).digest()
                for origin, content in zip(origins, contents, strict=True)
            ]
        )
        leaves = len(contents)
        signature = self._key.sign(_signed(begin, leaves, levels[-1][0]))
        return [
            b"".join((bytes((place, leaves - 1)), signature, siblings, content.payload))
            for place, (siblings, content) in enumerate(zip(proofs(levels), contents))
        ]


class _Receiver(AtOnce):
    def __init__(self, setting: Setting, key: SourcePublicKey) -> None:
        self._setting = setting
        self._key = key
        self._blocks: dict[tuple[bytes, int], KnownTree] = {}  # by size with signature, and epoch; the oldest first
        self._epoch, self._begin = -1, b""

    def prove(self, origin: Origin, source_port: int, destination_port: int, raw: bytes) -> bytes | str:
        shape = _SHAPES.get(raw[:2])
        if shape is None or len(raw) < shape[2]:
            return "source-malformed"
        place, leaves, start = shape
        epoch, payload = origin.epoch, raw[start:]
        if epoch != self._epoch:
            self._epoch, self._begin = epoch, LEAF + self._setting.bind(NAME, origin)
        said = self._begin, counted(origin.sequence, source_port, destination_port), payload
        leaf = sha256(b"".join(said)).digest()
        tree = self._blocks.get((raw[1:_HEAD], epoch))
        if tree is None:
            siblings = raw[_HEAD:start]
            tree = self._verified((raw[1:_HEAD], epoch), leaves, root_of(place, leaves, leaf, siblings))
            if tree is None:
                return "source-signature"
        return payload if tree.proves(place, leaf, raw, _HEAD) else "source-signature"

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
