"""How many registrations a second one core of an Authorizer does, and where the time goes.

A registration is: envelope verified, chains of host and user verified, the user's statement verified, rules asked for
both, a sender ID, a batch, new group keys, the security association sealed, the answer signed. The bytes of the
requests are made before; what counts is the processor time from those bytes to the bytes of the answers, group updates
included, and the record for the log. The store is not in it, nor is the bus. The floor is the cryptography that nobody
could leave out, as bare calls, in the same rounds.
"""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any
from unittest.mock import patch

import mcsa.endpoint
import services.authorizer.associations
import services.authorizer.core
import services.authorizer.group
import services.authorizer.group_changes
from bench.domain import Domain, Seat
from bench.floor import Floor
from mcsa.endpoint import Endpoint, OutgoingAnswer
from mcsa.envelope import Received
from mcsa.gkm.lkh import KeyServer
from mcsa.trust import Trust
from services.authorizer.rules import Rules

PARTS: list[tuple[str, Any, str]] = [
    ("envelope", mcsa.endpoint, "parse_envelope"),
    ("envelope", Received, "verify"),
    ("chain", Trust, "verify_chain"),
    ("statement", services.authorizer.core, "verify_user_statement"),
    ("policy", Rules, "check_all"),
    ("key_checks", services.authorizer.group_changes, "check_public_key"),
    ("key_checks", KeyServer, "check_contribution"),
    ("group_keys", KeyServer, "change"),
    ("update", services.authorizer.group, "seal_update"),
    ("seal", services.authorizer.associations, "seal_association"),
    ("sign", mcsa.endpoint, "sign_envelope"),
]
FIGURES = {
    "per_second_per_core": "registrations a second of processor time, chains never seen before",
    "cached_per_second_per_core": "the same, chains verified before",
    "large_group_per_second_per_core": "the same, into one group that grows to all seats",
    "floor_per_second": "only the cryptography, chains verified",
    "cached_floor_per_second": "only the cryptography, chains verified before",
    "ratio": "per_second_per_core / floor_per_second",
    "cached_ratio": "cached_per_second_per_core / cached_floor_per_second",
    "us_envelope": "microseconds of a first registration: the host's envelope, parsed and verified, without its chain",
    "us_chain": "both certificate chains",
    "us_statement": "the user's statement, without its chain",
    "us_policy": "Cedar, for host and user",
    "us_key_checks": "are the member's public keys usable",
    "us_group_keys": "the group key management protocol",
    "us_update": "the update to all, signed once a batch",
    "us_seal": "the security association, sealed",
    "us_sign": "the answer, signed",
    "us_other": "all else",
}
ROUNDS = 5  # the median counts
SEATS = 400
BATCH = 20  # registrations that arrive within one batch time: 1,000 a second at the default of 20 ms
MEMBERS = 40  # in a group, but for the large one


def run() -> dict[str, float | str]:
    """All figures; profiled rounds are not those that are timed."""
    domain = Domain(SEATS)
    floor = Floor(domain)
    rounds = [_round(domain, floor) for _ in range(ROUNDS)]
    figures = {name: median(each[name] for each in rounds) for name in rounds[0]}
    figures["ratio"] = figures["per_second_per_core"] / figures["floor_per_second"]
    figures["cached_ratio"] = figures["cached_per_second_per_core"] / figures["cached_floor_per_second"]
    parts = _profile(domain)
    rounded = {name: round(value, 2 if "ratio" in name else 0) for name, value in figures.items()}
    return {name: {**rounded, **parts}[name] for name in FIGURES}


def _round(domain: Domain, floor: Floor) -> dict[str, float]:
    """Each kind once, so that what else the machine does meanwhile meets them all."""
    trust = domain.trust()
    return {
        "per_second_per_core": SEATS / _register_all(domain, trust, MEMBERS),
        "floor_per_second": 1 / floor.seconds(with_chains=True),
        "cached_per_second_per_core": SEATS / _register_all(domain, trust, MEMBERS),
        "cached_floor_per_second": 1 / floor.seconds(with_chains=False),
        "large_group_per_second_per_core": SEATS / _register_all(domain, trust, SEATS),
    }


def _register_all(domain: Domain, trust: Trust, members: int) -> float:
    """Seconds of processor time in which every seat registered once, in groups of so many."""
    endpoint, seconds = domain.endpoint(trust), 0.0
    for start in range(0, SEATS, members):
        seats = domain.seats[start : start + members]
        group_id = domain.convene(endpoint, seats)
        for first in range(0, members, BATCH):
            seconds += _register_batch(domain, endpoint, group_id, seats[first : first + BATCH])
    return seconds


def _register_batch(domain: Domain, endpoint: Endpoint, group_id: bytes, seats: list[Seat]) -> float:
    arrivals = [domain.registration(seat, group_id) for seat in seats]
    gc.collect()
    effects: list[Any] = []
    started_at = time.process_time()
    for subject, raw in arrivals:
        effects += endpoint.request_arrived(subject, raw, None, domain.now)
    domain.now += 0.03  # past the batch time
    effects = domain.stored(endpoint, effects + endpoint.tick(domain.now))
    seconds = time.process_time() - started_at
    answers = [effect for effect in effects if isinstance(effect, OutgoingAnswer)]
    assert len(answers) == len(seats), endpoint.counters
    assert not any(name.startswith(("refused", "rejected")) for name in endpoint.counters), endpoint.counters
    return seconds


def _profile(domain: Domain) -> dict[str, float]:
    """Microseconds of each part of a registration; what one part calls of another counts for the other only."""
    spent: dict[str, float] = defaultdict(float)
    with ExitStack() as patched:
        for name, owner, attribute in PARTS:
            patched.enter_context(patch.object(owner, attribute, _timed(getattr(owner, attribute), name, spent)))
        total = _register_all(domain, domain.trust(), MEMBERS)
    spent["other"] = total - sum(spent.values())
    return {f"us_{name}": round(seconds / SEATS * 1e6, 1) for name, seconds in spent.items()}


def _timed(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:
        inner_before, started_at = sum(spent.values()), time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            inner = sum(spent.values()) - inner_before
            spent[name] += time.process_time() - started_at - inner

    return timed
