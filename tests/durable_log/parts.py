"""A log in memory: records in a list."""

from __future__ import annotations

from collections.abc import Iterable

from mcsa.durable_log import Chain, Replay, Replayed, Snapshot, StorageKeys
from mcsa.keys import Random, StorageKey
from tests.world import seeded

RANDOM = seeded(7)
LOG = "group-00ff"


def keys(generation: int = 0) -> StorageKeys:
    """The same ones each time."""
    first = StorageKeys(0, StorageKey(bytes(range(32))))
    first.advance(generation)
    return first


def append(stored: list[bytes], chain: Chain, *plaintexts: bytes, random: Random = RANDOM) -> None:
    for plaintext in plaintexts:
        raw = chain.seal(plaintext, random)
        stored.append(raw)
        chain.advance(raw)


def append_part(stored: list[bytes], snapshot: Snapshot, random: Random = RANDOM) -> None:
    raw = snapshot.seal_next(random)
    stored.append(raw)
    snapshot.advance(raw)


def append_snapshot(stored: list[bytes], chain: Chain, plaintext: bytes) -> Snapshot:
    snapshot = Snapshot(chain, plaintext)
    while not snapshot.complete:
        append_part(stored, snapshot)
    return snapshot


def replay(stored: Iterable[bytes], with_keys: StorageKeys | None = None, log: str = LOG) -> Replayed:
    reading = Replay(log, with_keys or keys())
    for raw in stored:
        reading.feed(raw)
    return reading.finish()
