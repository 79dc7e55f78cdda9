"""Where local sockets are, and whose process is at the other end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcsa.errors import Refused
from mcsa.shell.local import LONGEST_PATH, Peer, check_peer, connect, listen, peer_of

KIND = socket.SOCK_STREAM


@contextmanager
def listening(path: Path, allowed_users: tuple[int, ...] = ()) -> Iterator[socket.socket]:
    listener = listen(path, KIND, allowed_users)
    with listener:
        yield listener


def test_the_kernel_says_who_connected(tmp_path: Path) -> None:
    with listening(tmp_path / "own" / "s") as listener, connect(tmp_path / "own" / "s", KIND) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert peer_of(accepted) == Peer(os.getpid(), os.geteuid(), os.getegid())
            assert peer_of(client).process == os.getpid()


@pytest.mark.parametrize(("allowed_users", "mode"), [((), 0o700), ((4242,), 0o711)])
def test_the_directory_is_made_and_closed_to_others(tmp_path: Path, allowed_users: tuple[int, ...], mode: int) -> None:
    with listening(tmp_path / "own" / "s", allowed_users):
        assert (tmp_path / "own").stat().st_mode & 0o777 == mode
        assert (tmp_path / "own" / "s").stat().st_mode & 0o777 == (0o666 if allowed_users else 0o600)


@pytest.mark.parametrize(
    ("allowed_users", "mode", "fine"),
    [((), 0o700, True), ((), 0o711, False), ((4242,), 0o755, True), ((4242,), 0o733, False), ((4242,), 0o700, True)],
)
def test_a_directory_that_others_could_change_or_see_is_refused(
    tmp_path: Path, allowed_users: tuple[int, ...], mode: int, fine: bool
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(mode)
    if fine:
        listen(tmp_path / "there" / "s", KIND, allowed_users).close()
        return
    with pytest.raises(Refused, match="chmod") as refused:
        listen(tmp_path / "there" / "s", KIND, allowed_users)
    assert refused.value.rule == "directory"


def test_a_path_of_107_bytes_is_the_longest(tmp_path: Path) -> None:
    stem = tmp_path / "own"
    longest = stem / ("s" * (LONGEST_PATH - len(str(stem)) - 1))
    listen(longest, KIND).close()
    for too_long in (listen, connect):
        with pytest.raises(Refused, match="has 108") as refused:
            too_long(Path(f"{longest}s"), KIND)
        assert refused.value.rule == "path length"


def test_what_a_crashed_process_left_is_replaced_but_no_living_one(tmp_path: Path) -> None:
    path = tmp_path / "own" / "s"
    listen(path, KIND).close()  # leaves the path
    assert path.is_socket()
    with listening(path), pytest.raises(Refused, match="Is another one running"):
        listen(path, KIND)


def test_a_file_at_the_path_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(Refused, match="Can't listen"):
        listen(path, KIND)
    assert path.read_text() == "mine"


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="Is the service running"):
        connect(tmp_path / "s", KIND)


def test_our_own_user_root_and_those_allowed_may() -> None:
    stranger = Peer(1, 4242, 4242)
    check_peer(Peer(1, os.geteuid(), 0))
    check_peer(Peer(1, 0, 0))
    check_peer(stranger, (4242,))
    with pytest.raises(Refused, match="User 4242 may not") as refused:
        check_peer(stranger, (4243,))
    assert (refused.value.code, refused.value.rule) == ("local-socket", "peer")
