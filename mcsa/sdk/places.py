"""Where the sockets of this machine's hosts are: what `mcsa up` and the service units agree on."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mcsa.errors import Refused
from mcsa.shell.settings import state_home

SOCKET_VARIABLE = "MCSA_CSM_SOCKET"


def running_domain() -> Path:
    """The note that `mcsa up` leaves while it runs."""
    return state_home() / "running.json"


def csm_socket(host: str | None) -> Path:
    """The socket of a host's CSM; `Refused` with the way out where there is none."""
    chosen = os.environ.get(SOCKET_VARIABLE)
    if chosen and host is None:
        return Path(chosen)
    try:
        note = json.loads(running_domain().read_text())
    except (OSError, ValueError):
        if chosen:
            sentence = f"no domain runs here that has a host {host}: leave the host out, {SOCKET_VARIABLE} is set"
            raise Refused("no-csm", "socket", sentence) from None
        sentence = f"no domain runs here: start one with `mcsa up`, or set {SOCKET_VARIABLE} to the CSM's socket"
        raise Refused("no-csm", "socket", sentence) from None
    sockets: dict[str, str] = note["sockets"]
    if host is None and len(sockets) == 1:
        return Path(next(iter(sockets.values())))
    if host is None or host not in sockets:
        sentence = f"say which host by --host: {', '.join(sockets)}"
        raise Refused("no-csm", "host", sentence)
    return Path(sockets[host])
