"""Local Unix sockets: where they are, and whose process is at the other end.

Plaintext between an application and its MSM goes over these, never over the bus (design, D5). The kernel says who
connected (SO_PEERCRED); the path's directory keeps others out before that.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mcsa.errors import Refused

CODE = "local-socket"
LONGEST_PATH = 107  # bytes: sun_path has 108, the last is zero; unix(7)


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a local socket, as the kernel saw it when it connected."""

    process: int
    user: int
    group: int


def peer_of(connection: socket.socket) -> Peer:
    """Who is at the other end."""
    return Peer(*struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


def check_peer(peer: Peer, allowed_users: Collection[int] = ()) -> None:
    """Raises `Refused` unless it is our own user, root, or one of those."""
    if peer.user not in (os.geteuid(), 0, *allowed_users):
        raise Refused(CODE, "peer", f"User {peer.user} may not use this socket: name that user in its allowed users.")


def listen(path: Path, kind: socket.SocketKind, allowed_users: Collection[int] = ()) -> socket.socket:
    """A listening socket at `path`, whose directory is made where it is missing.

    The directory is ours alone (0700) or, where there are `allowed_users`, may be passed by others (0711). What a
    crashed process left at the path is replaced. `Refused` where the path is too long, the directory open to others,
    or somebody listens there.
    """
    _check_length(path)
    _check_directory(path.parent, 0o711 if allowed_users else 0o700)
    if path.is_socket() and not _is_served(path, kind):
        path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        listener.bind(str(path))
        path.chmod(0o666 if allowed_users else 0o600)
        listener.listen()
    except OSError as error:
        listener.close()
        raise Refused(CODE, "path", f"Can't listen at {path}: {error.strerror}. Is another one running?") from error
    return listener


def connect(path: Path, kind: socket.SocketKind) -> socket.socket:
    """A connection to what listens at `path`; `Refused` where nothing does."""
    _check_length(path)
    connection = socket.socket(socket.AF_UNIX, kind)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise Refused(CODE, "path", f"Nobody answers at {path}: {error.strerror}. Is the service running?") from error
    return connection


def _check_length(path: Path) -> None:
    if (length := len(os.fsencode(path))) > LONGEST_PATH:
        limit = f"The path of a Unix socket has at most {LONGEST_PATH} bytes"
        raise Refused(CODE, "path length", f"{limit}, {path} has {length}: choose a shorter directory.")


def _check_directory(directory: Path, mode: int) -> None:
    if not directory.exists():
        directory.mkdir(mode=mode, parents=True)
        directory.chmod(mode)  # whatever the umask is
    status = directory.stat()
    too_open = stat.S_IMODE(status.st_mode) & 0o077 & ~(mode | 0o044 if mode & 0o077 else mode)
    if status.st_uid != os.geteuid() or too_open:
        mend = f"chmod {mode:o} {directory}, or choose another"
        raise Refused(CODE, "directory", f"{directory} must belong to this user and not be open to others: {mend}.")


def _is_served(path: Path, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)  # a full backlog is an answer too
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True
