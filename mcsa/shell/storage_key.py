"""The door to the storage key: one file with the key of the earliest generation that is still needed, and the marks.

Whoever has this file and the store's disk can read the logs from their last snapshots on; what was before, nobody. A
replica begins with a copy of the file that the first one made; kept anywhere else, that copy opens the past again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.message import DecodeError

from mcsa.durable_log import Mark, Marks, StorageKeys
from mcsa.errors import Refused
from mcsa.keys import Random, StorageKey
from mcsa.shell.sealed_file import read_private_file, write_atomically
from mcsa.v1.log_pb2 import LogMark, StorageKeyFile

MAGIC = b"mcsa storage key 1\n"


class StorageKeyAtRest:
    """The file at `path` (0600). `Refused("file")` or `Refused("key-file")` where it can't be written or read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load_or_draw(self, random: Random = os.urandom) -> tuple[StorageKeys, Marks]:
        """What is in the file; a fresh key, written first, where there is none."""
        if not self._path.exists():
            self._write(0, StorageKey.draw(random), Marks())
        raw = read_private_file(self._path)
        try:
            content = StorageKeyFile.FromString(raw.removeprefix(MAGIC))
            if not raw.startswith(MAGIC):
                raise ValueError
            keys = StorageKeys(content.generation, StorageKey(content.key))
        except (DecodeError, ValueError):
            sentence = f"{self._path} is no storage key; without the one that was there the logs can't be read."
            raise Refused("key-file", str(self._path), sentence) from None
        return keys, Marks(Mark(mark.log, mark.number, mark.generation) for mark in content.marks)

    def save(self, keys: StorageKeys, marks: Marks) -> None:
        """Writes the marks down; the key moves on as far as they allow, in the file first, then in `keys`.

        Call it once what the marks say is acknowledged, and when they know every log there is.
        """
        generation = max(keys.generation, marks.generation(otherwise=keys.generation))
        with _overwriting(self._path, when=generation > keys.generation):
            self._write(generation, keys.at(generation), marks)
        keys.advance(generation)

    def _write(self, generation: int, key: StorageKey, marks: Marks) -> None:
        entries = [LogMark(log=mark.log, number=mark.number, generation=mark.generation) for mark in marks]
        content = StorageKeyFile(generation=generation, key=key.reveal(), marks=entries)
        write_atomically(self._path, MAGIC + content.SerializeToString())


@contextmanager
def _overwriting(path: Path, *, when: bool) -> Iterator[None]:
    """Zeros over what was in the file, once another has taken its place.

    As good as the file system lets us: one that copies on write, or a flash disk, may keep the old blocks for a while.
    """
    if not when:
        yield
        return
    with path.open("rb+", buffering=0) as old:
        yield
        old.write(bytes(os.fstat(old.fileno()).st_size))
        os.fsync(old.fileno())
