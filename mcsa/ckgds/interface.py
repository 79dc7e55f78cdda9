"""What a conference key generation and distribution scheme (CKGDS) is to the rest of the system (paper, section 3.3).

A plug-in is one module in this package with a class that satisfies `Scheme`, named in its `SCHEME`. It is its algebra
only, for parties numbered 0 (the Coordinator) to n-1, in rounds. What every scheme of the literature lacks, the wrapper
in `run.py` adds: nonces, signatures, confirmation, binding to conference, roster and epoch, evidence. A scheme knows no
names, no network, no signatures.

Round r begins when all messages of round r-1 have come: the wrapper sees to that, and to their order. Schemes in
which one party speaks at a time say so by `speakers`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from mcsa.errors import Refused
from mcsa.keys import Random
from mcsa.plug_ins import plug_ins

Payloads = Mapping[tuple[int, int], bytes]
"""What was said: by (round, party). Rounds count from 1."""


@dataclass(frozen=True, slots=True)
class Promises:
    """What a scheme states about itself; the conformance suite holds it to them."""

    contributory: bool  # nobody alone chooses the key
    forward_secrecy: bool  # long-term keys found later open no key of today
    openable: bool  # every secret is fresh to the run: an aborted run's may be shown, to find a cheater
    rounds: str
    cost: str  # in words of n parties


class Party(Protocol):
    """One party in one run."""

    def speak(self, round_number: int) -> bytes:
        """What this party says in a round; asked once, only where it is one of the speakers."""

    def hear(self, round_number: int, index: int, payload: bytes) -> None:
        """What another said; checked by the scheme's `check` before."""

    def secret(self) -> bytes:
        """What all parties now share, at least 32 bytes, not yet uniform; after the last round.

        Raises `Rejected("wrong-ciphertext")` where what was meant for this party alone is not good, which others see
        only once it opens its secrets.
        """

    def reveal(self) -> bytes:
        """The secrets of this run, for `judge`."""


class Scheme(Protocol):
    """A plug-in."""

    name: str
    title: str
    promises: Promises

    def rounds(self, size: int) -> int:
        """How many rounds a run of so many parties has."""

    def speakers(self, round_number: int, size: int) -> Collection[int]:
        """Who says something in a round."""

    def start(self, index: int, size: int, context: bytes, random: Random) -> Party:
        """A party. `context` is bound into every proof: a proof of another run proves nothing here."""

    def check(self, round_number: int, index: int, size: int, context: bytes, heard: Payloads) -> None:
        """Whether a message is one that an honest party could have sent, given all of the rounds before it.

        Anybody can check this, also later and offline: it is what makes an accusation evidence. Raises
        `Rejected`: "malformed", "invalid-element", "wrong-proof".
        """

    def judge(self, size: int, context: bytes, heard: Payloads, opened: Mapping[int, bytes]) -> dict[int, str]:
        """Who cheated, and how, as the opened secrets of an aborted run show; a secret that is none counts."""


@cache
def schemes() -> dict[str, Scheme]:
    """All plug-ins found in this package, by name."""
    return {scheme.name: scheme for scheme in plug_ins(__package__, "SCHEME").values()}


def scheme_named(name: str) -> Scheme:
    """The plug-in of that name, or `Refused` with the names there are."""
    try:
        return schemes()[name]
    except KeyError:
        known = ", ".join(sorted(schemes()))
        raise Refused("unknown-ckgds", "ckgds", f"there is no key scheme '{name}'; there are: {known}") from None
