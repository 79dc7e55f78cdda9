"""What a change of members costs under each group key management protocol, on the Authorizer and on the wire.

    python -m bench rekey --gkm NAME --members N [--json]    one protocol, one size, within 50 s
    python -m bench rekey                                    all of them, at 100 to 10,000, `lkh` up to a million

Time is that of the plug-in's change and of `mcsa.updates.seal_update`, which signs: what is measured is what is sent.
Bytes are those of the sealed update, certificate included. To the protocols a hostile leave and a cooperative one are
the same change; what differs is when it is carried out. Each leave is followed by a join, so that the size stays.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles
from typing import Any

from rich.console import Group as RenderableGroup
from rich.console import RenderableType
from rich.table import Table

from mcsa.gkm import Authority, Change, Scheme, scheme_named, schemes
from mcsa.updates import seal_update, update_key
from mcsa.v1.authorizer_pb2 import GroupUpdate
from tests.world import NOW, World

FIGURES = {
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
    "batch1000_ms": "1,000 leaves in one batch",
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
        gc.collect()
        gc.freeze()  # what the bench itself keeps is no part of what is measured
        started_at = time.perf_counter()
        self._authority = self._build()
        self._update_key = update_key(self._authority.key, GROUP_ID, 1)
        self._build_seconds = time.perf_counter() - started_at

    def figures(self) -> dict[str, float]:
        """All of them; see `FIGURES`."""
        found = self._memory()
        found.update(self._one_by_one())
        if self._size >= 2 * BATCH:
            found.update(self._in_batches())
        found["build_seconds"] = round(self._build_seconds, 2)
        return {name: found[name] for name in FIGURES if name in found}

    def _build(self) -> Authority:
        authority = self._scheme.create(os.urandom)
        for start in range(0, self._size, BUILD_BATCH):
            joins = dict.fromkeys(self._names[start : start + BUILD_BATCH], self._contribution)
            authority.change(joins, [], replace_key=False)
        return authority

    def _memory(self) -> dict[str, float]:
        gc.collect()
        found = {"bytes_per_member": round(size_of(self._authority) / self._size, 1)}
        if hasattr(self._authority, "tree"):
            found["tree_bytes_per_member"] = round(size_of(self._authority.tree) / self._size, 1)
        snapshot = self._authority.snapshot()
        found["snapshot_bytes_per_member"] = round(len(snapshot) / self._size, 1)
        started_at = time.perf_counter()
        replica = self._scheme.restore(snapshot, os.urandom)
        found["load_seconds"] = round(time.perf_counter() - started_at, 3)
        assert replica.key == self._authority.key
        return found

    def _one_by_one(self) -> dict[str, float]:
        joining = self._scheme.begin(os.urandom)
        welcome = self._authority.change({"observer": joining.contribution}, [], replace_key=True).welcomes["observer"]
        member = joining.finish(welcome)
        leaves, joins, ends_at = list[Timed](), list[Timed](), time.perf_counter() + ROUNDS_SECONDS
        while len(leaves) < ROUNDS and time.perf_counter() < ends_at:
            leaves += [self._timed({}, self._leavers(1)) for _ in range(self._run)]
            joins += [self._timed(self._newcomers(1), []) for _ in range(self._run)]
        changes = [timed.change for timed in [*leaves[: self._run], *joins[: self._run]]]
        followed = [_seconds(partial(member.process, change.rekey)) for change in changes][: self._run]
        return {
            **_costs("leave", leaves),
            "leave_p10_ms": round(quantiles([each.seconds for each in leaves], n=10)[0] * 1e3, 4),
            **_costs("join", joins),
            "join_unicasts": len(joins[-1].change.welcomes),
            "welcome_bytes": len(next(iter(joins[-1].change.welcomes.values()))),
            "member_ms": _milliseconds(followed),
            "sign_ms": _milliseconds([_seconds(partial(self._seal, timed.change)) for timed in leaves]),
            "keys_held": member.keys_held,
        }

    def _in_batches(self) -> dict[str, float]:
        timed = []
        for _ in range(BATCH_ROUNDS):
            timed.append(self._timed({}, self._leavers(BATCH)))
            self._authority.change(self._newcomers(BATCH), [], replace_key=False)
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

    def _timed(self, joins: dict[str, bytes], leaves: list[str]) -> Timed:
        self._update_key = update_key(self._authority.key, GROUP_ID, 1)  # known before
        started_at = time.perf_counter()
        change = self._authority.change(joins, leaves, replace_key=True)
        raw = self._seal(change)
        return Timed(time.perf_counter() - started_at, change, len(raw))

    def _seal(self, change: Change) -> bytes:
        update = GroupUpdate(group_id=GROUP_ID, number=2, epoch=2, gkm_rekey=change.rekey, removed=[7], ejection=True)
        return seal_update(update, 1, self._update_key, self._signer, os.urandom, NOW)


@dataclass(frozen=True, slots=True)
class Timed:
    """A change, the seconds that it took, and the size of the update."""

    seconds: float
    change: Change
    size: int


def _costs(name: str, timed: list[Timed]) -> dict[str, float]:
    return {
        f"{name}_ms": _milliseconds([each.seconds for each in timed]),
        f"{name}_wraps": round(median(each.change.wraps for each in timed)),
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
    return round(median(counts))


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
