"""`esp.c`: the same ESP by the same batches in C, built where there are a compiler and OpenSSL's headers."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.two_hosts import Link, in_two_processes
from bench.ways import traffic_key
from mcsa.keys import GroupKey

_SOURCE = Path(__file__).with_name("esp.c")


@contextmanager
def built() -> Iterator[Path | None]:
    """The program, in a folder that goes again; None where it can't be built here."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "esp"
        try:
            command = ["gcc", "-O2", "-o", str(program), str(_SOURCE), "-lcrypto"]
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):  # no gcc, or no openssl/evp.h
            yield None
        else:
            yield program


def rates(program: Path | None, link: Link, size: int, key: GroupKey, seconds: float) -> tuple[float | None, ...]:
    """Thousands of packets a second: sent, and opened. None where there is no program."""
    if program is None:
        return None, None
    keymat = traffic_key(key).reveal().hex()
    group, port = link.destination
    out, into = link.sending.fileno(), link.receiving.fileno()

    def receive(ready: Callable[[], None]) -> float:
        ready()
        return _printed(program, into, "receive", str(into), str(size), keymat)

    return in_two_processes(
        lambda: _printed(program, out, "send", str(out), group, str(port), str(size), str(seconds), keymat), receive
    )


def _printed(program: Path, descriptor: int, *arguments: str) -> float:
    done = subprocess.run([program, *arguments], pass_fds=[descriptor], check=True, capture_output=True, text=True)
    return float(done.stdout)
