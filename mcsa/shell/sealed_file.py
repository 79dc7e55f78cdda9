"""The door to files that matter: written whole or not at all, read only if nobody else could, sealed if secret.

A sealed file is `b"mcsa sealed file 1\\n"`, a salt of 32 bytes, and AES-256-GCM ciphertext with its 16-byte tag. Each
writing has a key of its own, HKDF (RFC 5869, SHA-256) of the storage key with that fresh salt, so that the fixed nonce
never meets a key twice. The label, which says what the file is, is associated data: one file can't be passed off as
another.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcsa.encoding import encode_parts
from mcsa.errors import Refused, Rejected
from mcsa.keys import Secret, StorageKey

MAGIC = b"mcsa sealed file 1\n"
LABEL = "mcsa sealed file v1"
SALT_SIZE = 32
_NONCE = bytes(12)


class _FileKey(Secret):
    """Seals one writing of one file."""


def seal_file(
    path: Path, plaintext: bytes, key: StorageKey, label: str, random: Callable[[int], bytes] = os.urandom
) -> None:
    """Replaces `path` by `plaintext`, sealed; raises as `write_atomically`."""
    salt = random(SALT_SIZE)
    sealed = AESGCM(_file_key(key, salt).reveal()).encrypt(_NONCE, plaintext, encode_parts(LABEL, label))
    write_atomically(path, MAGIC + salt + sealed)


def open_sealed_file(path: Path, key: StorageKey, label: str) -> bytes:
    """What `seal_file` put into `path` under this key and label.

    Raises `Rejected("sealed-file")` where it is another's, was changed, or is none; `FileNotFoundError`.
    """
    raw = path.read_bytes()
    if not raw.startswith(MAGIC) or len(raw) < len(MAGIC) + SALT_SIZE:
        raise Rejected("sealed-file", "format")
    salt, sealed = raw[len(MAGIC) : len(MAGIC) + SALT_SIZE], raw[len(MAGIC) + SALT_SIZE :]
    try:
        return AESGCM(_file_key(key, salt).reveal()).decrypt(_NONCE, sealed, encode_parts(LABEL, label))
    except InvalidTag:
        raise Rejected("sealed-file", label) from None


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces `path` by `content`, durably: after a crash there is the old file or the new one, never a mixture.

    Where that fails (a full disk, a missing folder) the old file is as it was, and `Refused("file")` says why.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        _write_durably(temporary, content, mode)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        sentence = f"Can't write {path}: {error.strerror}. What was there before is unchanged; {_way_out(path)}."
        raise Refused("file", str(path), sentence) from None


def read_private_file(path: Path) -> bytes:
    """A file with a secret in it. `Refused("key-file")` where it isn't there, or others could read it too."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                sentence = f"{path} holds a secret and others may read it (mode {mode:04o}); run: chmod 600 {path}"
                raise Refused("key-file", str(path), sentence)
            return file.read()
    except OSError as error:
        raise Refused("key-file", str(path), f"Can't read {path}: {error.strerror}.") from None


def _write_durably(path: Path, content: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)  # left by a process of our number that crashed
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_key(key: StorageKey, salt: bytes) -> _FileKey:
    return _FileKey.extract(key.reveal(), salt, LABEL)


def _way_out(path: Path) -> str:
    if not path.parent.is_dir():
        return f"make the folder {path.parent}"
    return f"free some space under {path.parent}, or look at who may write there"
