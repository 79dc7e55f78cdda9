"""What a CSM keeps on disk."""

from __future__ import annotations

import stat
from pathlib import Path

from mcsa.keys import ConferenceKey
from mcsa.v1.csm_pb2 import RememberedParticipation, UserKey
from services.csm.storage import Storage

CONFERENCE = b"c" * 16
ALICE = "spiffe://example.org/user/alice"


def test_a_participation_outlives_the_process_and_is_sealed(tmp_path: Path):
    state = RememberedParticipation(
        user=UserKey(path="alice.pem", passphrase="correct horse"), conference_id=CONFERENCE
    )
    Storage(tmp_path).remember(CONFERENCE, ALICE, state)
    assert Storage(tmp_path).recall() == ([state], [])
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"correct horse" not in path.read_bytes()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_forgotten_is_gone(tmp_path: Path):
    storage = Storage(tmp_path)
    storage.remember(CONFERENCE, ALICE, RememberedParticipation(conference_id=CONFERENCE))
    storage.remember(CONFERENCE, ALICE, None)
    storage.remember(CONFERENCE, ALICE, None)
    assert storage.recall() == ([], [])


def test_a_participation_that_was_changed_or_moved_is_named_and_left_alone(tmp_path: Path):
    storage = Storage(tmp_path)
    for letter in (b"a", b"b"):
        storage.remember(letter * 16, ALICE, RememberedParticipation(conference_id=letter * 16))
    one, other = sorted((tmp_path / "participations").iterdir())
    one.write_bytes(other.read_bytes())  # another's, under this name
    found, broken = storage.recall()
    assert [state.conference_id for state in found] == [b"b" * 16]
    assert broken == [one.name]


def test_a_conference_key_is_kept_sealed_and_removed(tmp_path: Path):
    storage = Storage(tmp_path)
    key = ConferenceKey(bytes(range(32)))
    storage.keep_key(CONFERENCE, ALICE, 7, key)
    (path,) = (tmp_path / "keys").iterdir()
    assert key.reveal() not in path.read_bytes()
    storage.keep_key(CONFERENCE, ALICE, 0, None)
    assert not list((tmp_path / "keys").iterdir())


def test_a_record_that_can_not_be_written_is_told_and_can_be_written_later(tmp_path: Path):
    storage = Storage(tmp_path)
    (tmp_path / "records").rmdir()
    refused = storage.write_record("a.record", b"entries")
    assert refused is not None and "make the folder" in refused.sentence
    (tmp_path / "records").mkdir()
    assert storage.write_record("a.record", b"entries") is None
    assert (tmp_path / "records" / "a.record").read_bytes() == b"entries"
