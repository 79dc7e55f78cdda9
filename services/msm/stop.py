"""What ends a thread that waits for descriptors: one more descriptor."""

from __future__ import annotations

import os


class Stop:
    """Set once, by another thread; to be watched with the rest, and closed when the thread has ended."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.is_set = False

    def fileno(self) -> int:
        """Readable once it is set."""
        return self._read

    def set(self) -> bool:
        """False where it was set before."""
        if self.is_set:
            return False
        self.is_set = True
        os.write(self._write, b"\0")
        return True

    def close(self) -> None:
        """Once."""
        os.close(self._read)
        os.close(self._write)
