"""Mode `tesla` at a receiver, for one source: what is kept until its key is disclosed. See `tesla.py`."""

from __future__ import annotations

import hmac
from collections import deque
from typing import NamedTuple

from mcsa.errors import Rejected
from mcsa.source_authentication.interface import CLAIM_SIZE, Claim, Setting, Verdict
from mcsa.source_authentication.key_chain import LENGTH, DisclosedChain
from mcsa.source_authentication.source_key import SourcePublicKey
from mcsa.source_authentication.tesla_wire import CONTENT, NAME, Bootstrap, MacKey, Timed, parse

CHAINS = 3  # of one source that are known at once
KEPT_FOR = 5.0  # seconds after a key was due: so long may a bootstrap, and what discloses the key, be lost
STEPS_A_SECOND = 8 * LENGTH  # hashes for key tests of one source; whoever forges its keys makes us do no more
BOOTSTRAPS_A_SECOND = 16  # likewise signatures verified
BOOTSTRAPS_REMEMBERED = 64  # an older one that is played again is believed again, and tells nothing new


class _Kept(NamedTuple):
    """A packet that waits for its key. Few objects: a busy source has tens of thousands of them."""

    claim: Claim
    kind: int
    interval: int
    mac: bytes
    payload: bytes


_Name = tuple[int, int, int, int, int, int, bytes, bytes]


class _Allowance:
    """So much a second, and no more saved up than that."""

    def __init__(self, amount: float) -> None:
        self._amount = self._left = amount
        self._at = 0.0

    def take(self, amount: float, now: float) -> bool:
        self._left = min(self._amount, self._left + max(0.0, now - self._at) * self._amount)
        self._at = now
        if self._left < amount:
            return False
        self._left -= amount
        return True


class TeslaReceiver:
    """See the module."""

    def __init__(self, setting: Setting, key: SourcePublicKey) -> None:
        self._setting = setting
        self._key = key
        self._length = setting.policy.tesla_interval_ms / 1000
        self._lag = setting.policy.tesla_disclosure
        self._slack = setting.policy.tesla_clock_ms / 1000
        self._chains: list[DisclosedChain] = []  # the newest last
        self._kept: dict[int, list[_Kept]] = {}  # by interval
        self._seen: set[_Name] = set()  # of what is kept
        self._moment: tuple[float, int | None] = -1.0, None  # what arrives together arrives at one time
        self._bootstraps: deque[tuple[int, int]] = deque(maxlen=BOOTSTRAPS_REMEMBERED)  # epoch and sequence
        self._steps = _Allowance(STEPS_A_SECOND)
        self._signatures = _Allowance(BOOTSTRAPS_A_SECOND)

    def receive(self, claim: Claim, now: float) -> list[Verdict]:
        """Decides what this packet's key proves; the packet itself later, unless it can't be believed at all."""
        try:
            packet = parse(claim.payload)
        except Rejected as rejected:
            return [Verdict(claim, cause=rejected.cause)]
        present = self._present(now)
        if present is None:
            return [Verdict(claim, cause="source-clock")]
        if isinstance(packet, Bootstrap):
            return self._take_bootstrap(claim, packet, now)
        if packet.interval > present:
            return [Verdict(claim, cause="source-future")]
        proved = self._disclose(packet.interval - self._lag, packet.disclosed, now)
        if proved is None:
            return [Verdict(claim, cause="source-key")]
        return [*proved, *self._keep(claim, packet, present)]

    def _present(self, now: float) -> int | None:
        """The interval that the source's clock can't be beyond."""
        if now != self._moment[0]:
            latest = self._setting.clock.latest(now)
            self._moment = now, None if latest is None else int((latest + self._slack) / self._length)
        return self._moment[1]

    def _keep(self, claim: Claim, packet: Timed, present: int) -> list[Verdict]:
        chain = self._chain_of(packet.interval)
        known = chain is not None and packet.interval <= chain.disclosed
        if present >= packet.interval + self._lag or known:  # RFC 4082, section 3.5: its key may be out
            return [Verdict(claim, cause="source-late")]
        kind, interval, mac, _, payload = packet
        kept = _Kept(claim, kind, interval, mac, payload)
        name = _name(kept)
        if name in self._seen:
            return [Verdict(claim, cause="source-repeated")]
        if not self._setting.buffer.take(_size(claim)):
            return [Verdict(claim, cause="source-buffer")]
        self._seen.add(name)
        self._kept.setdefault(interval, []).append(kept)
        return []

    # ---- keys

    def _chain_of(self, interval: int) -> DisclosedChain | None:
        for chain in reversed(self._chains):
            if chain.first <= interval < chain.first + chain.length:
                return chain
        return None

    def _take_bootstrap(self, claim: Claim, bootstrap: Bootstrap, now: float) -> list[Verdict]:
        if not 0 < bootstrap.length <= LENGTH:
            return [Verdict(claim, cause="source-malformed")]
        number = claim.origin.epoch, claim.origin.sequence
        if number in self._bootstraps:
            return [Verdict(claim, cause="source-repeated")]
        if not self._signatures.take(1, now):
            return [Verdict(claim, cause="source-buffer")]
        said = bootstrap.signed(self._setting, claim.origin, claim[1:3])
        if not self._key.verifies(bootstrap.signature, said):
            return [Verdict(claim, cause="source-signature")]
        self._bootstraps.append(number)
        if all(chain.first != bootstrap.first for chain in self._chains):
            chain = DisclosedChain(bootstrap.first, bootstrap.length, bootstrap.commitment)
            self._chains = sorted([*self._chains, chain], key=lambda chain: chain.first)[-CHAINS:]
        return [Verdict(claim)]

    def _disclose(self, interval: int, key: bytes, now: float) -> list[Verdict] | None:
        """What a disclosed key proves; None where it is none of the source's."""
        chain = self._chain_of(interval)
        if chain is None or interval <= chain.disclosed or not self._steps.take(chain.steps_to(interval), now):
            return []  # before the bootstrap, long known, or more than we are ready to do
        found = chain.disclose(interval, key)
        if found is None:
            return None
        proved = sorted(self._kept.keys() & found.keys())
        return [verdict for each in proved for verdict in self._judge(each, found[each])]

    def _judge(self, interval: int, key: bytes) -> list[Verdict]:
        """All that was kept for an interval."""
        verdicts, macs = [], dict[int, MacKey]()
        for claim, kind, _, proof, payload in self._release(interval):
            origin = claim.origin
            mac = macs.get(origin.epoch)
            if mac is None:
                mac = macs[origin.epoch] = MacKey(key, self._setting.bind(NAME, origin))
            if not hmac.compare_digest(mac.mac(kind, interval, origin.sequence, claim[1:3], payload), proof):
                verdicts.append(Verdict(claim, cause="source-mac"))
            else:
                verdicts.append(Verdict(claim, payload if kind == CONTENT else None))
        return verdicts

    def _release(self, interval: int) -> list[_Kept]:
        kept = self._kept.pop(interval, [])
        for each in kept:
            self._setting.buffer.give_back(_size(each.claim))
            self._seen.discard(_name(each))
        return kept

    # ---- time

    def woken(self, now: float) -> list[Verdict]:
        """Gives up what has no key after so long."""
        present = self._present(now)
        if present is None:
            return []
        over = present - self._lag - int(KEPT_FOR / self._length)
        late = [interval for interval in self._kept if interval < over]
        return [Verdict(claim, cause="source-undisclosed") for each in late for claim, *_ in self._release(each)]

    def close(self) -> None:
        """Gives the room back."""
        for interval in list(self._kept):
            self._release(interval)


def _name(kept: _Kept) -> _Name:
    """Of all that its MAC proves: by the MAC alone, a forged packet that has it, too, would be taken for the source's,
    and the source's own for its repetition. What it discloses is proved by itself. A plain tuple of plain values, which
    the garbage collector leaves alone."""
    (origin, source_port, destination_port, _, _), kind, interval, mac, payload = kept
    return origin[1], origin[2], source_port, destination_port, kind, interval, mac, payload


def _size(claim: Claim) -> int:
    return len(claim.payload) + CLAIM_SIZE
