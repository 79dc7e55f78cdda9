"""nkey seeds and their files."""

from __future__ import annotations

import os
from pathlib import Path

import nkeys
import pytest

from mcsa.errors import Refused
from mcsa.shell.nkeys import NkeySeed, load_nkey, load_or_make_nkey


def test_a_seed_and_its_public_key_belong_together() -> None:
    seed = NkeySeed.draw(os.urandom)
    pair = nkeys.from_seed(bytearray(seed.reveal()))
    assert pair.public_key.decode() == seed.public
    assert seed.public.startswith("U")
    assert len(seed.public) == 56


def test_a_seed_is_not_shown() -> None:
    seed = NkeySeed.draw(os.urandom)
    assert seed.reveal().decode() not in f"{seed!r} {seed} {vars(NkeySeed)}"


def test_it_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "msm-a.nkey"
    made = load_or_make_nkey(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_make_nkey(path) == made
    assert load_nkey(path) == made


@pytest.mark.parametrize("content", [b"", b"SUNOTHING", b"SU" + b"A" * 56, b"X" * 58])
def test_a_file_that_holds_no_seed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "nkey"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(Refused, match="holds no nkey") as refused:
        load_nkey(path)
    assert refused.value.code == "key-file"


def test_the_seed_of_another_kind_of_nkey(tmp_path: Path) -> None:
    path = tmp_path / "nkey"
    path.write_bytes(bytes(nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_ACCOUNT)))
    path.chmod(0o600)
    with pytest.raises(Refused, match="not the seed of a user's nkey"):
        load_nkey(path)


def test_a_seed_that_others_may_read(tmp_path: Path) -> None:
    path = tmp_path / "nkey"
    load_or_make_nkey(path)
    path.chmod(0o644)
    with pytest.raises(Refused, match="chmod 600"):
        load_or_make_nkey(path)
