"""What a process of ours asks of the kernel: no core dumps, children that die with it, a clean stop."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a shell's kill, a terminal that is closed
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_DUMPABLE = 4
_libc = ctypes.CDLL(None, use_errno=True)


def forbid_core_dumps() -> None:
    """Keeps keys out of core files, and other processes of the same user from reading our memory (ptrace)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """To be called in a child, between fork and exec (`preexec_fn`): when the thread that started it ends,
    however it ends, so does the child.

    It is the *thread*, so start such children from one that lives as long as the process. Survives exec, `ip netns
    exec` included, but not a set-uid program.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def interrupt_at_endings() -> None:
    """From now on the first of `ENDINGS` raises KeyboardInterrupt in the main thread, and all that follow are ignored:
    they would only disturb the cleaning up. SIGHUP stays ignored where it is (nohup)."""

    def interrupt(*_: object) -> None:
        for number in ENDINGS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in ENDINGS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


def stop_event() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. To be called once, in the running loop."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
