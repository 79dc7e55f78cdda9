"""What participants sign of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from mcsa.encoding import digest
from mcsa.v1.conference_pb2 import RunStart

PARTICIPATION_LABEL = "mcsa participation v1"


def run_hash_of(start: RunStart) -> bytes:
    """SHA-256 of the RunStart, 32 bytes."""
    return hashlib.sha256(start.SerializeToString(deterministic=True)).digest()


def transcript_hash_of(run_hash: bytes, rounds: Iterable[bytes]) -> bytes:
    """32 bytes."""
    return digest("mcsa transcript v1", run_hash, *rounds)
