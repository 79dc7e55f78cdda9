"""What the Authorizer's table of members costs for a million of them, in memory and time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.rekey import size_of
from services.authorizer.members import Member, Members

FIGURES = {
    "bytes_per_member": "of the Authorizer's memory, all told: host, one user, address, sender ID, lease, index",
    "resident_bytes_per_member": "what a process grows by that unpacks them",
    "packed_bytes_per_member": "in a snapshot",
    "put_us": "a member added; the mean",
    "get_us": "a member looked up; the mean",
    "renew_us": "a lease renewed; the mean",
    "lapsed_ms": "all leases looked through",
    "hosts_of_ms": "a user looked for on all hosts",
    "pack_seconds": "all members, for a snapshot",
    "unpack_seconds": "a replica has them from that",
}
MEMBERS = 1_000_000
NOW = 1_800_000_000
SAMPLE = 20_000
ROUNDS = 3


def run() -> dict[str, Any]:
    """Once at full size."""
    started_at = time.perf_counter()
    members = _built()
    put_us = (time.perf_counter() - started_at) / MEMBERS * 1e6
    packed = members.pack()
    replica = subprocess.run([sys.executable, "-m", __name__], input=packed, stdout=subprocess.PIPE, check=True)
    return {
        "bytes_per_member": round(size_of(members) / MEMBERS, 1),
        "resident_bytes_per_member": round(int(replica.stdout) / MEMBERS, 1),
        "packed_bytes_per_member": round(len(packed) / MEMBERS, 1),
        "put_us": round(put_us, 1),
        **_one_by_one(members),
        "lapsed_ms": round(_seconds(lambda: members.lapsed(NOW)) * 1e3, 1),
        "hosts_of_ms": round(_seconds(lambda: members.hosts_of("spiffe://example.org/user/u999999")) * 1e3, 1),
        "pack_seconds": round(_seconds(members.pack), 3),
        "unpack_seconds": round(_seconds(lambda: Members.unpack(packed)), 3),
    }


def _one_by_one(members: Members) -> dict[str, float]:
    hosts = [_host(number * 49_999 % MEMBERS) for number in range(SAMPLE)]
    return {
        "get_us": round(_seconds(lambda: [members.get(host) for host in hosts]) / SAMPLE * 1e6, 2),
        "renew_us": round(_seconds(lambda: [members.renew(host, NOW + 60) for host in hosts]) / SAMPLE * 1e6, 2),
    }


def _built() -> Members:
    members = Members(os.urandom(32))
    for number in range(MEMBERS):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        user, sender_id = f"spiffe://example.org/user/u{number:06}", number + 1 if number % 2 else None
        members.put(Member(_host(number), address, sender_id, {user}, NOW + 1 + number % 60))
    return members


def _host(number: int) -> str:
    return f"spiffe://example.org/host/h{number:06}"


def _seconds(action: Callable[[], object]) -> float:
    """The median of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        started_at = time.perf_counter()
        result = action()
        rounds.append(time.perf_counter() - started_at)
        del result
    return median(rounds)


def _replica() -> None:
    """A process of its own: prints what it grows by in unpacking what it is given."""
    packed = sys.stdin.buffer.read()
    before = _resident_bytes()
    members = Members.unpack(packed)
    print(_resident_bytes() - before)
    assert len(members) == MEMBERS


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    _replica()
