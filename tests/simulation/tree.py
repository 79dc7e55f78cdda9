"""A key tree with very many members, of whom some are looked at closely: each of these follows, misses and repairs
rekeys as a host does, the others are names to the tree and nothing else. From a seed.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field

from mcsa.errors import Rejected
from mcsa.gkm import Excluded, Joining, Member
from mcsa.gkm.lkh import Lkh
from mcsa.keys import GroupKey
from tests.world import seeded

BUILD_BATCH = 10_000
KEPT = 12  # rekeys that can still be repaired; who missed more registers again
LOSS = 0.1  # of a rekey to one member, and of a repair
ASLEEP = 0.01  # of a round's members, each for longer than can be repaired


@dataclass
class Follower:
    """A member that is looked at closely."""

    name: str
    member: Member
    have: int  # number of the last rekey that it followed
    wakes_in: int = 0  # round

    def follow(self, rekeys: dict[int, bytes], upto: int) -> None:
        """Repairs: all that it missed, in order."""
        for number in range(self.have + 1, upto + 1):
            if rekeys[number]:
                self.member.process(rekeys[number])
        self.have = upto


@dataclass
class Tree:
    """See the module."""

    seed: int
    members: int
    followers: int
    counters: Counter[str] = field(default_factory=Counter)
    story: list[tuple[object, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._scheme = Lkh()
        self.authority = self._scheme.create(seeded(self.seed))
        self.present: dict[str, Follower] = {}
        self.gone: list[tuple[Member, int]] = []  # and the round in which they left
        self.rekeys: dict[int, bytes] = {}
        self.keys: list[GroupKey] = []
        self.round = 0
        self._names = 0
        self._others: list[str] = []
        self._again: list[str] = []  # followers that register again in the next round
        self._snapshot = (0, b"")
        self._records: dict[int, bytes] = {}
        for _ in range(0, self.members - self.followers, BUILD_BATCH):
            self._others += self._fill(min(BUILD_BATCH, self.members - self.followers - len(self._others)))
        self.change(self._new_names(self.followers), [])

    def _new_names(self, count: int) -> list[str]:
        self._names += count
        return [f"m{number}" for number in range(self._names - count, self._names)]

    def _fill(self, count: int) -> list[str]:
        names = self._new_names(count)
        self.authority.change(dict.fromkeys(names, b""), [], replace_key=False)
        return names

    # ---- one change

    def change(self, newcomers: list[str], leavers: list[str], others_come: int = 0, others_go: int = 0) -> None:
        """Followers, and others, come and go in one batch; then everybody hears of it, or doesn't."""
        halves: dict[str, Joining] = {name: self._scheme.begin(seeded(0)) for name in newcomers}
        coming = self._new_names(others_come)
        going = [self._pop_other() for _ in range(others_go)]
        joins = {name: half.contribution for name, half in halves.items()} | dict.fromkeys(coming, b"")
        self._chance.shuffle(going)
        change = self.authority.change(joins, [*leavers, *going], replace_key=self._chance.random() < 0.9)
        self.round += 1
        self.rekeys[self.round], self._records[self.round] = change.rekey, change.record
        self.keys.append(self.authority.key)
        left = [self.present.pop(name) for name in [*leavers, *newcomers] if name in self.present]
        self.gone += [(follower.member, self.round) for follower in left]
        for follower in list(self.present.values()):
            self._hear(follower)
        for name, half in halves.items():
            self.present[name] = Follower(name, half.finish(change.welcomes[name]), self.round)
        self._others += coming
        what = hashlib.sha256(change.rekey).hexdigest()[:16]
        self.story.append((self.round, len(joins), len(leavers) + len(going), change.wraps, what))

    def _pop_other(self) -> str:
        at = self._chance.randrange(len(self._others))
        self._others[at], self._others[-1] = self._others[-1], self._others[at]
        return self._others.pop()

    def _hear(self, follower: Follower) -> None:
        if self.round < follower.wakes_in:
            self.counters["asleep"] += 1
        elif self._chance.random() < LOSS:
            self.counters["lost"] += 1
        elif follower.have < self.round - 1 and self._chance.random() < LOSS:
            self.counters["repair lost"] += 1
        elif follower.have < self.round - KEPT:
            self.counters["missed too much"] += 1
            self._again.append(follower.name)
        else:
            self.counters["repaired"] += follower.have < self.round - 1
            follower.follow(self.rekeys, self.round)

    # ---- all of it

    def churn(self, rounds: int) -> None:
        """Members come, go, sleep and register again."""
        for _ in range(rounds):
            leavers = [name for name in self.present if self._chance.random() < 0.02]
            for follower in self.present.values():
                if self._chance.random() < ASLEEP:
                    follower.wakes_in = self.round + 2 * KEPT
            again = [name for name in dict.fromkeys(self._again) if name in self.present and name not in leavers]
            self._again.clear()
            newcomers = [*again, *self._new_names(len(leavers))]
            size = self._chance.choice((0, 1, 3, 40, 200))
            self.change(newcomers, leavers, self._chance.randrange(size + 1), self._chance.randrange(size + 1))

    def snapshot(self) -> None:
        """What a replica could start from."""
        self._snapshot = self.round, self.authority.snapshot()

    def restart(self) -> None:
        """Another process goes on, from the snapshot and the records since."""
        at, snapshot = self._snapshot
        replica = self._scheme.restore(snapshot, seeded(self.seed + self.round))
        for number in range(at + 1, self.round + 1):
            replica.apply(self._records[number])
        assert replica.key == self.authority.key
        self.authority = replica

    def settle(self) -> None:
        """Everybody wakes up and repairs, or registers again."""
        for follower in self.present.values():
            follower.wakes_in = 0
        late = [name for name, each in self.present.items() if each.have < self.round - KEPT]
        self.change(late, [])
        for follower in self.present.values():
            follower.follow(self.rekeys, self.round)

    def learned_by_the_departed(self) -> int:
        """How many keys, of those since they left, they come to by all rekeys there were, in both orders."""
        rekeys = [rekey for rekey in self.rekeys.values() if rekey]
        learned = 0
        for member, left_in in self.gone:
            forbidden = set(self.keys[left_in - 1 :])
            for rekey in [*rekeys, *reversed(rekeys)]:
                try:
                    learned += member.process(rekey) in forbidden
                except (Excluded, Rejected):
                    continue
        return learned
