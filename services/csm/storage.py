"""What a CSM keeps on disk: participations and conference keys, sealed; records, open: they are evidence to show.

state/csm/storage.key                        0600
state/csm/participations/<conference>-<user> sealed
state/csm/keys/<conference>-<user>           sealed: key epoch (8 bytes, big-endian) and key (32 bytes), newest only
state/csm/records/<name>.record              0600
"""

from __future__ import annotations

import os
from pathlib import Path

from mcsa.errors import Refused, Rejected
from mcsa.identity import SpiffeId
from mcsa.keys import ConferenceKey, StorageKey
from mcsa.shell.sealed_file import open_sealed_file, read_private_file, seal_file, write_atomically
from mcsa.v1.csm_pb2 import RememberedParticipation

PARTICIPATION_LABEL = "mcsa csm participation v1"
KEY_LABEL = "mcsa csm conference key v1"


class Storage:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self.records = folder / "records"
        self._participations = folder / "participations"
        self._keys = folder / "keys"
        for part in (self.records, self._participations, self._keys):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file = folder / "storage.key"
        if not key_file.exists():
            write_atomically(key_file, os.urandom(StorageKey.size))
        self._key = StorageKey(read_private_file(key_file))

    def remember(self, conference_id: bytes, user: str, participation: RememberedParticipation | None) -> None:
        """Durable once this returns; None removes it."""
        path = self._participations / _name(conference_id, user)
        if participation is None:
            path.unlink(missing_ok=True)
        else:
            seal_file(path, participation.SerializeToString(), self._key, f"{PARTICIPATION_LABEL} {path.name}")

    def recall(self) -> tuple[list[RememberedParticipation], list[str]]:
        """What an earlier process wrote down, and the files that can't be opened."""
        found, broken = [], []
        for path in sorted(self._participations.iterdir()):
            if path.name.startswith("."):  # of a writing that was cut short
                continue
            try:
                raw = open_sealed_file(path, self._key, f"{PARTICIPATION_LABEL} {path.name}")
                found.append(RememberedParticipation.FromString(raw))
            except Rejected:
                broken.append(path.name)
        return found, broken

    def keep_key(self, conference_id: bytes, user: str, key_epoch: int, key: ConferenceKey | None) -> None:
        """The database of conference keys (paper, section 3.2); None removes what there is."""
        path = self._keys / _name(conference_id, user)
        if key is None:
            path.unlink(missing_ok=True)
        else:
            seal_file(path, key_epoch.to_bytes(8, "big") + key.reveal(), self._key, f"{KEY_LABEL} {path.name}")

    def write_record(self, name: str, record: bytes) -> Refused | None:
        """The refusal where it can't be written; the record is whole in memory and written again."""
        try:
            write_atomically(self.records / name, record)
        except Refused as refused:
            return refused
        return None


def _name(conference_id: bytes, user: str) -> str:
    return f"{conference_id.hex()}-{SpiffeId.parse(user).name}"
