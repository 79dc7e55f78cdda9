"""What a change of members costs under each group key management protocol, on the Authorizer and on the wire.

    python -m bench rekey --gkm NAME --members N [--json]    one protocol, one size, within 50 s
    python -m bench rekey                                    all of them, at 100 to 10,000, `lkh` up to a million

Time is that of the plug-in's change and of `mcsa.updates.seal_update`, which signs: what is measured is what is sent.
Bytes are those of the sealed update, certificate included. To the protocols a hostile leave and a cooperative one are
the same change; what differs is when it is carried out. Each leave is followed by a join, so that the size stays.

Under a protocol of subgroups the members are spread evenly over as few as there may be. A change of one member touches
one of them; of a batch the figures are the sum over all that it touches, each with an update of its own. Relaying
agents count once here, though they are members of two.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import time
import types
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles
from typing import Any

from rich.console import Group as RenderableGroup
from rich.console import RenderableType
from rich.table import Table

from mcsa.gkm import Authority, Change, Member, Scheme, scheme_named, schemes
from mcsa.keys import UpdateKey
from mcsa.updates import seal_update, update_key
from mcsa.v1.authorizer_pb2 import GroupUpdate
from tests.world import NOW, World

FIGURES = {
    "subgroups": "that the members are spread over, where the protocol has several",
    "leave_ms": "a hostile leave: new keys, the update sealed and signed; the median",
    "leave_p10_ms": "the same, what a tenth of them stay below: with nothing in the way",
    "leave_wraps": "keys wrapped for that",
    "leave_bytes": "size of that update, signature and certificate included",
    "join_ms": "a join with a new key, likewise, and the newcomer's welcome",
    "join_wraps": "keys wrapped for that",
    "join_bytes": "size of that update",
    "join_unicasts": "answers to single members",
    "welcome_bytes": "size of what the newcomer starts from",
    "member_ms": "what a leave costs a member that stays",
    "keys_held": "by a member",
    "batch1000_ms": "1,000 leaves in one batch; of 1,000 members an observer alone stays",
    "batch1000_wraps": "keys wrapped for that",
    "batch1000_optimal_wraps": "the fewest in a full tree of degree 4 (see bench/README.md)",
    "batch1000_bytes": "size of that update",
    "tree_bytes_per_member": "of the Authorizer's memory: the keys",
    "bytes_per_member": "the same, names' index and all told",
    "snapshot_bytes_per_member": "written down",
    "load_seconds": "a replica starts from that",
    "build_seconds": "the group itself, in batches of 10,000 joins",
    "sign_ms": "of the times above: the update alone, sealed and signed",
}
GROUP_ID = bytes(16)
SIZES = [100, 1_000, 10_000]
LARGE_SIZES = {"lkh": [100_000, 1_000_000]}  # of schemes that are not flat
BATCH = 1_000
BUILD_BATCH = 10_000
RUN = 100  # leaves, one after the other, then as many joins; but no more than a tenth of the members
ROUNDS = 500  # of each, at least
ROUNDS_SECONDS = 8.0  # unless they take this long
BATCH_ROUNDS = 7


def add_options(parser: argparse.ArgumentParser) -> None:
    """For `bench.__main__`."""
    parser.add_argument("--gkm", choices=sorted(schemes()), help="one protocol, of --members only")
    parser.add_argument("--members", type=int, default=1_000)


def run(gkm: str | None = None, members: int = 1_000) -> dict[str, Any]:
    """Of one protocol, or by name and size of all of them."""
    if gkm is not None:
        return Measurement(scheme_named(gkm), members).figures()
    sizes = [(name, size) for name in sorted(schemes()) for size in SIZES + LARGE_SIZES.get(name, [])]
    return {f"{name}-{size}": Measurement(scheme_named(name), size).figures() for name, size in sizes}


def table(values: dict[str, Any], title: str) -> RenderableType:
    """One size down, or each protocol's sizes across."""
    if "leave_ms" in values:
        return _table(title, {"value": values}, meanings=True)
    columns: dict[str, dict[str, Any]] = {}
    for name, figures in values.items():
        gkm, size = name.rsplit("-", 1)
        columns.setdefault(gkm, {})[f"{int(size):,}"] = figures
    return RenderableGroup(*(_table(f"{gkm}: {title}", sizes, meanings=False) for gkm, sizes in columns.items()))


def _table(title: str, columns: dict[str, dict[str, Any]], *, meanings: bool) -> Table:
    rows = Table(title=title, title_justify="left")
    rows.add_column("figure", no_wrap=True)
    for name in columns:
        rows.add_column(name, justify="right", no_wrap=True)
    if meanings:
        rows.add_column("what it is")
    for figure, meaning in FIGURES.items():
        cells = [f"{figures[figure]:,}" if figure in figures else "" for figures in columns.values()]
        if any(cells):
            rows.add_row(figure, *cells, *([meaning] if meanings else []))
    return rows


class Measurement:
    """A group of so many members."""

    def __init__(self, scheme: Scheme, members: int) -> None:
        self._scheme = scheme
        self._size = members
        self._signer = World().authorizer
        self._choice = random.Random(1)
        self._number = 0
        self._run = min(RUN, members // 10 + 1)
        self._names = [f"host/{number}" for number in range(members)]
        self._contribution = scheme.begin(os.urandom).contribution  # everybody's: its making is the members' time
        subgroup_size = scheme.promises.subgroup_size
        self._subgroups = -(-members // subgroup_size) if scheme.subgroups else 1
        self._subgroup_of = {name: number % self._subgroups for number, name in enumerate(self._names)}
        self._sizes = Counter(self._subgroup_of.values())
        gc.collect()
        gc.freeze()  # what the bench itself keeps is no part of what is measured
        started_at = time.perf_counter()
        self._authorities = self._build()  # one for each subgroup; one alone where there are none
        self._build_seconds = time.perf_counter() - started_at

    def figures(self) -> dict[str, float]:
        """All of them; see `FIGURES`."""
        found = self._memory()
        found.update(self._one_by_one())
        if self._size >= BATCH:
            found.update(self._in_batches())
        found["build_seconds"] = round(self._build_seconds, 2)
        if self._scheme.subgroups:
            found["subgroups"] = self._subgroups
        return {name: found[name] for name in FIGURES if name in found}

    def _build(self) -> list[Authority]:
        authorities: list[Authority] = []
        for subgroup in range(self._subgroups):
            authority, names = self._scheme.create(os.urandom), self._names[subgroup :: self._subgroups]
            for start in range(0, len(names), BUILD_BATCH):
                joins = dict.fromkeys(names[start : start + BUILD_BATCH], self._contribution)
                authority.change(joins, [], replace_key=False)
            authorities.append(authority)
        return authorities

    def _memory(self) -> dict[str, float]:
        gc.collect()
        found = {"bytes_per_member": round(size_of(self._authorities) / self._size, 1)}
        trees = [authority.tree for authority in self._authorities if hasattr(authority, "tree")]
        if trees:
            found["tree_bytes_per_member"] = round(size_of(trees) / self._size, 1)
        snapshots = [authority.snapshot() for authority in self._authorities]
        found["snapshot_bytes_per_member"] = round(sum(map(len, snapshots)) / self._size, 1)
        started_at = time.perf_counter()
        replicas = [self._scheme.restore(snapshot, os.urandom) for snapshot in snapshots]
        found["load_seconds"] = round(time.perf_counter() - started_at, 3)
        assert [replica.key for replica in replicas] == [authority.key for authority in self._authorities]
        return found

    def _one_by_one(self) -> dict[str, float]:
        observers = [self._observer(authority) for authority in self._authorities]
        leaves, joins, ends_at = list[Timed](), list[Timed](), time.perf_counter() + ROUNDS_SECONDS
        while len(leaves) < ROUNDS and time.perf_counter() < ends_at:
            leaves += [self._timed({}, self._leavers(1)) for _ in range(self._run)]
            joins += [self._timed(self._newcomers(1), []) for _ in range(self._run)]
        changes = [change for timed in leaves[: self._run] for change in timed.changes.items()]
        followed = [_seconds(partial(observers[subgroup].process, change.rekey)) for subgroup, change in changes]
        welcomes = [welcome for change in joins[-1].changes.values() for welcome in change.welcomes.values()]
        signed = [
            (change, self._update_key(subgroup)) for timed in leaves for subgroup, change in timed.changes.items()
        ]
        return {
            **_costs("leave", leaves),
            "leave_p10_ms": round(quantiles([each.seconds for each in leaves], n=10)[0] * 1e3, 4),
            **_costs("join", joins),
            "join_unicasts": len(welcomes),
            "welcome_bytes": len(welcomes[0]),
            "member_ms": _milliseconds(followed),
            "sign_ms": _milliseconds([_seconds(partial(self._seal, *each)) for each in signed]),
            "keys_held": observers[0].keys_held,
        }

    def _observer(self, authority: Authority) -> Member:
        joining = self._scheme.begin(os.urandom)
        welcomes = authority.change({"observer": joining.contribution}, [], replace_key=True).welcomes
        return joining.finish(welcomes["observer"])

    def _in_batches(self) -> dict[str, float]:
        timed = []
        for _ in range(BATCH_ROUNDS):
            timed.append(self._timed({}, self._leavers(BATCH)))
            for subgroup, (joins, _) in self._by_subgroup(self._newcomers(BATCH), []).items():
                self._authorities[subgroup].change(joins, [], replace_key=False)
        return {**_costs("batch1000", timed), "batch1000_optimal_wraps": optimal_wraps(self._size, BATCH)}

    def _leavers(self, count: int) -> list[str]:
        leavers = []
        for _ in range(count):
            at = self._choice.randrange(len(self._names))
            self._names[at], self._names[-1] = self._names[-1], self._names[at]
            leavers.append(self._names.pop())
        return leavers

    def _newcomers(self, count: int) -> dict[str, bytes]:
        newcomers = [f"newcomer/{self._number + number}" for number in range(count)]
        self._number += count
        self._names += newcomers
        return dict.fromkeys(newcomers, self._contribution)

    def _by_subgroup(self, joins: dict[str, bytes], leaves: list[str]) -> dict[int, tuple[dict[str, bytes], list[str]]]:
        """Who comes and goes where; who comes, comes to the smallest."""
        touched: dict[int, tuple[dict[str, bytes], list[str]]] = {}
        for name in leaves:
            subgroup = self._subgroup_of.pop(name)
            self._sizes[subgroup] -= 1
            touched.setdefault(subgroup, ({}, []))[1].append(name)
        for name, contribution in joins.items():
            subgroup = self._subgroup_of[name] = min(range(self._subgroups), key=self._sizes.__getitem__)
            self._sizes[subgroup] += 1
            touched.setdefault(subgroup, ({}, []))[0][name] = contribution
        return touched

    def _timed(self, joins: dict[str, bytes], leaves: list[str]) -> Timed:
        touched = self._by_subgroup(joins, leaves)
        keys = {subgroup: self._update_key(subgroup) for subgroup in touched}  # known before
        changes, size, started_at = dict[int, Change](), 0, time.perf_counter()
        for subgroup, (coming, going) in touched.items():
            change = changes[subgroup] = self._authorities[subgroup].change(coming, going, replace_key=True)
            size += len(self._seal(change, keys[subgroup]))
        return Timed(time.perf_counter() - started_at, changes, size)

    def _update_key(self, subgroup: int) -> UpdateKey:
        return update_key(self._authorities[subgroup].key, GROUP_ID, 1)

    def _seal(self, change: Change, key: UpdateKey) -> bytes:
        update = GroupUpdate(group_id=GROUP_ID, number=2, epoch=2, gkm_rekey=change.rekey, removed=[7], ejection=True)
        return seal_update(update, 1, key, self._signer, os.urandom, NOW)


@dataclass(frozen=True, slots=True)
class Timed:
    """The changes of the subgroups that were touched, the seconds that they took, and the size of the updates."""

    seconds: float
    changes: dict[int, Change]
    size: int


def _costs(name: str, timed: list[Timed]) -> dict[str, float]:
    return {
        f"{name}_ms": _milliseconds([each.seconds for each in timed]),
        f"{name}_wraps": round(median(sum(change.wraps for change in each.changes.values()) for each in timed)),
        f"{name}_bytes": round(median(each.size for each in timed)),
    }


def _milliseconds(seconds: list[float]) -> float:
    return round(median(seconds) * 1e3, 4)


def _seconds(action: Callable[[], Any]) -> float:
    started_at = time.perf_counter()
    action()
    return time.perf_counter() - started_at


def optimal_wraps(members: int, leaves: int, degree: int = 4, draws: int = 9) -> int:
    """The fewest wraps after so many leaves, anywhere in a tree of this degree whose leaves are filled from the left.

    Who stays is in a number of whole subtrees whose keys nobody has who left. One wrap gives the holders of one key
    another: it links two subtrees, and to link all of them takes one fewer than there are. This counts the subtrees of
    leaves drawn at random, from the left-out leaves alone; it shares nothing with the plug-in.
    """
    counts = []
    for draw in range(draws):
        touched, width, subtrees = set(random.Random(draw).sample(range(members), leaves)), members, 0
        while width > 1:
            above = {node // degree for node in touched}
            subtrees += sum(min(degree, width - node * degree) for node in above) - len(touched)
            touched, width = above, -(-width // degree)
        counts.append(subtrees - 1)
    return max(round(median(counts)), 0)


def size_of(root: object) -> int:
    """Bytes of an object and all that hangs on it, code left out."""
    seen, total = set[int](), 0
    waiting: list[object] = [root]
    while waiting:
        found = waiting.pop()
        if id(found) not in seen and not isinstance(found, _CODE):
            seen.add(id(found))
            total += sys.getsizeof(found)
            waiting += gc.get_referents(found)
    return total


_CODE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)
