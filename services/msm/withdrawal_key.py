"""The door to the key that a host's announcements are withdrawn by: one file, made where there is none."""

from __future__ import annotations

import os
from pathlib import Path

from mcsa.errors import Refused
from mcsa.keys import Random
from mcsa.shell.sealed_file import read_private_file, write_atomically
from services.msm.announcing import WithdrawalKey


def load_withdrawal_key(path: Path, random: Random = os.urandom) -> WithdrawalKey:
    """`Refused("file")` or `Refused("key-file")` where it can't be written or read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        write_atomically(path, WithdrawalKey.draw(random).reveal())
    try:
        return WithdrawalKey(read_private_file(path))
    except ValueError:
        sentence = f"{path} is no key; remove it: then earlier announcements of this host end by themselves in an hour"
        raise Refused("key-file", str(path), sentence) from None
