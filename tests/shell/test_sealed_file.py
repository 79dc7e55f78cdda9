"""Files: whole or not at all, ours alone, sealed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mcsa.errors import Refused, Rejected
from mcsa.keys import StorageKey
from mcsa.shell.sealed_file import MAGIC, open_sealed_file, read_private_file, seal_file, write_atomically

KEY = StorageKey(bytes(range(32)))


def test_what_was_sealed_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    seal_file(path, b"a secret", KEY, "snapshot")
    assert open_sealed_file(path, KEY, "snapshot") == b"a secret"
    assert b"secret" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_same_content_is_never_sealed_alike(tmp_path: Path) -> None:
    seal_file(tmp_path / "one", b"same", KEY, "x")
    seal_file(tmp_path / "two", b"same", KEY, "x")
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(("key", "label"), [(StorageKey(bytes(32)), "snapshot"), (KEY, "journal")])
def test_another_key_or_label_opens_nothing(tmp_path: Path, key: StorageKey, label: str) -> None:
    seal_file(tmp_path / "snapshot", b"a secret", KEY, "snapshot")
    with pytest.raises(Rejected) as rejected:
        open_sealed_file(tmp_path / "snapshot", key, label)
    assert rejected.value.cause == "sealed-file"


def test_any_changed_or_missing_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    seal_file(path, b"a secret", KEY, "snapshot")
    whole = path.read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        for content in (bytes(changed), whole[:position]):
            path.write_bytes(content)
            with pytest.raises(Rejected, match="sealed-file"):
                open_sealed_file(path, KEY, "snapshot")


def test_its_layout_is_what_is_written_down(tmp_path: Path) -> None:
    seal_file(tmp_path / "x", b"12345", KEY, "x", random=lambda size: b"S" * size)
    raw = (tmp_path / "x").read_bytes()
    assert raw.startswith(MAGIC + b"S" * 32)
    assert len(raw) == len(MAGIC) + 32 + 5 + 16


def test_a_file_is_replaced_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"old")
    inode = path.stat().st_ino
    write_atomically(path, b"new", mode=0o644)
    assert path.read_bytes() == b"new"
    assert path.stat().st_ino != inode
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_what_a_crash_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / f".state.{os.getpid()}.new").write_bytes(b"half")
    write_atomically(tmp_path / "state", b"whole")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("state", b"whole")]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A tmpfs of 64 kB, where we may mount one."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root; test_a_limit_leaves_the_old_file tries the same by a limit")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        write_atomically(disk / "state", b"old")
        with pytest.raises(Refused, match=r"No space left on device.*unchanged; free some space under") as refused:
            write_atomically(disk / "state", bytes(200_000))
        assert refused.value.rule == str(disk / "state")
        assert (disk / "state").read_bytes() == b"old"
        assert [entry.name for entry in disk.iterdir()] == ["state"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_limit_leaves_the_old_file(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = tmp_path / "state"
    write_atomically(path, b"old")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(Refused, match=r"File too large.*unchanged"):
            write_atomically(path, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=f"make the folder {tmp_path}/nowhere"):
        write_atomically(tmp_path / "nowhere" / "state", b"")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622, 0o601])
def test_a_secret_that_others_may_touch_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    with pytest.raises(Refused, match=f"run: chmod 600 {path}") as refused:
        read_private_file(path)
    assert refused.value.code == "key-file"
    path.chmod(0o400)
    assert read_private_file(path) == b"secret"


def test_a_secret_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file or directory"):
        read_private_file(tmp_path / "key")


def test_every_moment_of_a_writing_that_is_cut_short_leaves_a_whole_file(tmp_path: Path) -> None:
    """A child writes old and new in turns and is killed at some moment, again and again."""
    path = tmp_path / "state"
    program = (
        "import sys, itertools; from pathlib import Path; from mcsa.shell.sealed_file import write_atomically\n"
        "print(flush=True)\n"
        "for n in itertools.count(): write_atomically(Path(sys.argv[1]), bytes([n % 256]) * 100_000)"
    )
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            while not path.exists():
                pass
            writer.kill()
        content = path.read_bytes()
        assert len(content) == 100_000
        assert len(set(content)) == 1
