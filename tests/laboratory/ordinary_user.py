"""Run by test_kind.py as an ordinary user: multicast, a fault and a capture in a laboratory of one's own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from mcsa.laboratory.capture import Capture
from mcsa.laboratory.kind import kind, reexec_in_user_namespace
from mcsa.laboratory.namespaces import Laboratory
from mcsa.shell.multicast import GroupSocket


def main() -> None:
    reexec_in_user_namespace()
    found = kind()
    told: dict[str, object] = {"process": os.getpid(), "kind": found.name, "reason": found.reason}
    if found.name == "user-namespaces":
        with Laboratory(("alpha", "beta")) as laboratory:
            told |= show(laboratory)
    print(json.dumps(told))


def show(laboratory: Laboratory) -> dict[str, object]:
    alpha, beta, group = laboratory["alpha"], laboratory["beta"], laboratory.plan.group(1)
    capture = Capture(beta, Path(os.environ["XDG_RUNTIME_DIR"]) / "beta.pcap")
    with alpha.inside():
        sender = GroupSocket(group, 4500, alpha.address)
    with beta.inside():
        receiver = GroupSocket(group, 4500, beta.address)
    laboratory.await_membership(beta, group)
    receiver.socket.settimeout(10)
    laboratory.faults.drop_group(group)
    sender.send(b"dropped")
    laboratory.faults.clear()
    sender.send(b"from alpha")
    received = receiver.socket.recv(100)
    return {
        "name": laboratory.name,
        "arguments": sys.argv[1:],
        "received": received.decode(),
        "dropped": received != b"dropped",
        "captured": capture.stop()["esp-udp"],
    }


if __name__ == "__main__":
    main()
