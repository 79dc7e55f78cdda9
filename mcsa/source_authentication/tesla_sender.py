"""Mode `tesla` at the source: intervals, chains, and what has to be said when nobody says anything. See `tesla.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mcsa.esp.relayed import Origin
from mcsa.source_authentication.interface import Block, Content, Setting
from mcsa.source_authentication.key_chain import KeyChain
from mcsa.source_authentication.source_key import SourceKey
from mcsa.source_authentication.tesla_wire import (
    CONTENT,
    DISCLOSURE,
    NAME,
    NOTICE,
    Bootstrap,
    MacKey,
    Timed,
)

BOOTSTRAP_EACH = 1.0  # seconds, while something is said
BOOTSTRAP_SOON = 0.1  # seconds between the first ones of each chain: some may be lost
BOOTSTRAPS_SOON = 4
DISCLOSURES = 3  # that follow what was said last, an interval apart; each tells the earlier keys too
_NOTICEABLY = 0.001  # seconds after an interval's beginning, so that rounding doesn't wake too early


class _At(NamedTuple):
    """A block's interval, and which of the mode's packets it is."""

    interval: int
    kind: int
    chain: KeyChain | None = None  # that a bootstrap is about


class TeslaSender:
    """See the module. A source's clock may go where it will: intervals never go back."""

    def __init__(self, setting: Setting, key: SourceKey) -> None:
        self._setting = setting
        self._key = key
        self._length = setting.policy.tesla_interval_ms / 1000
        self._lag = setting.policy.tesla_disclosure
        self._interval = 0
        self._chains: list[KeyChain] = []  # the present one, the last; and the one before, whose keys are disclosed yet
        self._announced = 0  # bootstraps of the present chain
        self._announce_at = 0.0
        self._used = 0  # the last interval in which something was said
        self._disclosed = 0  # the last interval whose key was said
        self._wake_at: float | None = None

    def unready(self, now: float) -> str:
        """`clock` while the Authorizer's time isn't known."""
        return "clock" if self._setting.clock.earliest(now) is None else ""

    def take(self, contents: Sequence[Content], now: float) -> list[Block]:
        """All of it, with a bootstrap before it where one is due."""
        self._advance(now)
        blocks = self._bootstrap(now)
        blocks.append(Block(contents, _At(self._interval, CONTENT)))
        self._used, self._disclosed = self._interval, self._interval - self._lag
        self._schedule(now)
        return blocks

    def wake_at(self) -> float | None:
        """At the beginning of the next interval, while a key is to be disclosed."""
        return self._wake_at

    def woken(self, now: float) -> list[Block]:
        """The disclosure of a key that nothing said has disclosed."""
        if self._wake_at is None or now < self._wake_at or self.unready(now):
            return []
        self._advance(now)
        due = self._interval - self._lag
        blocks = self._bootstrap(now)
        if due > self._disclosed:
            self._disclosed = due
            blocks.append(Block([NOTICE], _At(self._interval, DISCLOSURE), is_notice=True))
        self._schedule(now)
        return blocks

    def _advance(self, now: float) -> None:
        earliest = self._setting.clock.earliest(now)
        assert earliest is not None, "asked `unready` before"
        self._interval = max(self._interval, int(earliest / self._length))
        if not self._chains or self._interval not in self._chains[-1]:
            # the first one begins before its time, so that each packet has a key to disclose
            follows = bool(self._chains) and self._interval - self._lag in self._chains[-1]
            first = self._chains[-1].first + self._chains[-1].length if follows else self._interval - self._lag
            self._chains = [*self._chains[-1:], KeyChain(first)]
            self._announced, self._announce_at = 0, now

    def _bootstrap(self, now: float) -> list[Block]:
        if now < self._announce_at:
            return []
        self._announced += 1
        self._announce_at = now + (BOOTSTRAP_SOON if self._announced < BOOTSTRAPS_SOON else BOOTSTRAP_EACH)
        return [Block([NOTICE], _At(self._interval, DISCLOSURE, self._chains[-1]), is_notice=True)]

    def _schedule(self, now: float) -> None:
        if self._disclosed >= self._used + DISCLOSURES - 1:
            self._wake_at = None
            return
        earliest = self._setting.clock.earliest(now)
        begins = (self._interval + 1) * self._length
        self._wake_at = now + _NOTICEABLY + max(0.0, begins - (begins if earliest is None else earliest))

    def _key_of(self, interval: int) -> bytes:
        return next(chain.key_of(interval) for chain in reversed(self._chains) if interval in chain)

    def authenticate(self, block: Block, origins: Sequence[Origin]) -> list[bytes]:
        """MACs under the block's interval's key; a bootstrap's signature."""
        at: _At = block.detail
        if at.chain is not None:
            return [self._sign(at.chain, origin) for origin in origins]
        key, disclosed = self._key_of(at.interval), self._key_of(at.interval - self._lag)
        begin = self._setting.bind(NAME, origins[0])
        mac = MacKey(key, begin).mac
        authenticated = []
        for origin, content in zip(origins, block.contents, strict=True):
            proof = mac(at.kind, at.interval, origin.sequence, content[:2], content.payload)
            authenticated.append(Timed(at.kind, at.interval, proof, disclosed, content.payload).encode())
        return authenticated

    def _sign(self, chain: KeyChain, origin: Origin) -> bytes:
        bootstrap = Bootstrap(chain.first, chain.length, chain.commitment)
        signature = self._key.sign(bootstrap.signed(self._setting, origin, NOTICE[:2]))
        return bootstrap._replace(signature=signature).encode()
