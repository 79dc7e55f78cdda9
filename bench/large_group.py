"""What a group of a million receivers costs its Authorizer: memory, one leave, a snapshot, a replica's start.

    python -m bench large_group --members N [--json]    within 50 s at a million

The group is the Authorizer's own (`services.authorizer.group`) with `lkh`, filled as from a snapshot: registrations one
by one would take half an hour. Each member is a host with an address and, unless `--no-users`, one user.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

from bench.rekey import size_of
from mcsa.durable_log import Chain, Replay, Snapshot, StorageKeys
from mcsa.gkm import scheme_named
from mcsa.keys import StorageKey
from mcsa.policy import complete_policy
from mcsa.v1.authorizer_log_pb2 import GroupRecord, GroupSnapshot
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy, SignedStatement
from services.authorizer.group import Flushed, Group
from services.authorizer.members import Member, Members
from services.authorizer.setting import Setting
from tests.world import NOW, World

FIGURES = {
    "bytes_per_member": "of the Authorizer's memory, all told: tree, names' index, members' table, updates kept",
    "gkm_bytes_per_member": "of these: the key tree and its index",
    "table_bytes_per_member": "of these: the table of members",
    "leave_ms": "one leave: asked for, keys, table, update sealed and signed, record for the log; the median",
    "leave_p10_ms": "the same, what a tenth of them stay below: with nothing in the way",
    "leave_commit_ms": "the record of that, serialised and sealed for the log",
    "evict_user_ms": "a user thrown out, likewise: looked for on all hosts",
    "sweep_ms": "all leases looked through, none has ended",
    "snapshot_bytes_per_member": "written down",
    "snapshot_seconds": "of the state, until its bytes are there: nothing else is decided meanwhile",
    "seal_seconds": "these sealed for the log, in parts; others are served between them",
    "load_seconds": "a replica has the group from its sealed parts: opened, put together, unpacked, checked",
    "load_cpu_seconds": "the same, of processor time: what others do on the machine is not in it",
    "load_open_seconds": "of load_seconds: the parts opened",
    "load_resident_bytes_per_member": "what the replica's process has grown by then",
    "load_peak_bytes_per_member": "and by at most, meanwhile",
}
MEMBERS = 1_000_000
BUILD_BATCH = 10_000
LEAVES = 300
EVICTIONS = 10
ROUNDS = 3
LOG = "group-large"
GROUP_ID = bytes(16)


def add_options(parser: argparse.ArgumentParser) -> None:
    """For `bench.__main__`."""
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--no-users", action="store_true", help="hosts for themselves")


def run(members: int = MEMBERS, no_users: bool = False) -> dict[str, Any]:
    """Once at that size."""
    group = _group(members, users=not no_users)
    found = {**_memory(group, members), **_changes(group, members, users=not no_users), **_written(group, members)}
    return {name: found[name] for name in FIGURES if name in found}


def _setting() -> Setting:
    policy = complete_policy(GroupPolicy(gkm="lkh"))
    description = GroupDescription(group_id=GROUP_ID, name="large", address="239.255.64.1", policy=policy)
    return Setting(description, bytes(16), SignedStatement(), World().authorizer, "198.51.100.1", os.urandom)


def _group(members: int, *, users: bool) -> Group:
    setting = _setting()
    empty = Group(setting, setting.gkm(), NOW).snapshot()
    snapshot = GroupSnapshot(gkm=_tree(members), counters=empty.counters, members=_table(members, users=users))
    group = Group.restored(setting, [GroupRecord(snapshot=snapshot)], NOW)
    assert group is not None and len(group.members) == members
    return group


def _tree(members: int) -> bytes:
    authority = scheme_named("lkh").create(os.urandom)
    for start in range(0, members, BUILD_BATCH):
        names = map(_host, range(start, min(start + BUILD_BATCH, members)))
        authority.change(dict.fromkeys(names, b""), [], replace_key=False)
    return authority.snapshot()


def _table(count: int, *, users: bool) -> bytes:
    members = Members(os.urandom(32))
    for number in range(count):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        members.put(Member(_host(number), address, None, {_user(number)} if users else set(), NOW + 60))
    return members.pack()


def _host(number: int) -> str:
    return f"spiffe://example.org/host/h{number:06}"


def _user(number: int) -> str:
    return f"spiffe://example.org/user/u{number:06}"


# ---- memory, changes


def _memory(group: Group, members: int) -> dict[str, float]:
    gc.collect()
    parts = {"bytes_per_member": group, "gkm_bytes_per_member": group.gkm, "table_bytes_per_member": group.members}
    return {name: round(size_of(part) / members, 1) for name, part in parts.items()}


def _changes(group: Group, members: int, *, users: bool) -> dict[str, float]:
    gc.freeze()
    chosen = random.Random(1).sample(range(members), min(LEAVES + EVICTIONS, members // 2))
    evicted, leaving = chosen[:EVICTIONS], chosen[EVICTIONS:]
    sweeps = [_seconds(lambda: group.sweep(NOW)) for _ in range(ROUNDS)]
    log = _Log()
    leaves = [_seconds(partial(_leave, group, _host(number), log)) for number in leaving]
    found = {
        "leave_ms": _milliseconds(leaves),
        "leave_p10_ms": round(quantiles(leaves, n=10)[0] * 1e3, 3),
        "leave_commit_ms": _milliseconds([_seconds(log.commit) for _ in leaving]),
        "sweep_ms": _milliseconds(sweeps),
    }
    if users:
        evictions = [_seconds(partial(_evict, group, _user(number))) for number in evicted]
        found["evict_user_ms"] = _milliseconds(evictions)
    return found


def _leave(group: Group, host: str, log: _Log) -> None:
    assert group.remove_host(host, NOW)
    log.take(_flush(group))


def _evict(group: Group, user: str) -> None:
    assert group.remove_user(user, NOW, eject=True)
    _flush(group)


def _flush(group: Group) -> Flushed:
    flushed = group.flush(NOW)
    group.committed()
    return flushed


class _Log:
    """A log of a group's flushes, without a store."""

    def __init__(self) -> None:
        self._chain = Chain(LOG, StorageKeys(1, StorageKey.draw(os.urandom)))
        self._waiting: list[Flushed] = []

    def take(self, flushed: Flushed) -> None:
        self._waiting.append(flushed)

    def commit(self) -> None:
        raw = self._chain.seal(self._waiting.pop().record.SerializeToString(), os.urandom)
        self._chain.advance(raw)


# ---- snapshot, replica


def _written(group: Group, members: int) -> dict[str, float]:
    plaintext = b""

    def write() -> None:
        nonlocal plaintext
        plaintext = GroupRecord(snapshot=group.snapshot()).SerializeToString()

    seconds = median(_seconds(write) for _ in range(ROUNDS))
    with TemporaryDirectory() as folder:
        key, path = os.urandom(32), Path(folder) / "log"
        started_at = time.perf_counter()
        parts = list(_seal(plaintext, key))
        seal_seconds = time.perf_counter() - started_at
        path.write_bytes(b"".join(len(part).to_bytes(4, "big") + part for part in parts))
        command = [sys.executable, "-m", __name__, str(path), key.hex()]
        told = [subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout for _ in range(ROUNDS)]
    opened, loaded, cpu, grown, peak = (median(column) for column in zip(*(map(float, line.split()) for line in told)))
    return {
        "snapshot_bytes_per_member": round(len(plaintext) / members, 1),
        "snapshot_seconds": round(seconds, 2),
        "seal_seconds": round(seal_seconds, 2),
        "load_seconds": round(loaded, 2),
        "load_cpu_seconds": round(cpu, 2),
        "load_open_seconds": round(opened, 2),
        "load_resident_bytes_per_member": round(grown / members, 1),
        "load_peak_bytes_per_member": round(peak / members, 1),
    }


def _seal(plaintext: bytes, key: bytes) -> Iterator[bytes]:
    snapshot = Snapshot(Chain(LOG, StorageKeys(1, StorageKey(key))), plaintext)
    while not snapshot.complete:
        raw = snapshot.seal_next(os.urandom)
        yield raw
        snapshot.advance(raw)


def _replica() -> None:
    """A process of its own: prints how long it takes to have the group from the parts, and what it grows by."""
    path, key = Path(sys.argv[1]), bytes.fromhex(sys.argv[2])
    setting, before = _setting(), _status("VmRSS")
    started_at, cpu_before = time.perf_counter(), time.process_time()
    replay = Replay(LOG, StorageKeys(1, StorageKey(key)))
    for part in _read(path):
        replay.feed(part)
    raw = replay.finish().snapshot
    assert raw is not None
    opened_at = time.perf_counter()
    group = Group.restored(setting, [GroupRecord.FromString(raw)], NOW)
    loaded_at, cpu = time.perf_counter(), time.process_time() - cpu_before
    assert group is not None and len(group.members)
    del replay, raw
    peak = _status("VmHWM") - before
    print(opened_at - started_at, loaded_at - started_at, cpu, _status("VmRSS") - before, peak)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while size := file.read(4):
            yield file.read(int.from_bytes(size, "big"))


def _status(name: str) -> int:
    """Bytes, of what the kernel says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _milliseconds(seconds: list[float]) -> float:
    return round(median(seconds) * 1e3, 3)


def _seconds(action: Callable[[], object]) -> float:
    started_at = time.perf_counter()
    action()
    return time.perf_counter() - started_at


if __name__ == "__main__":
    _replica()
