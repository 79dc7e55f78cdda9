"""Opening: all inbound SAs of one group, made as senders are heard (RFC 4303 section 3.4, design section 7)."""

from __future__ import annotations

import struct
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from mcsa.errors import Rejected
from mcsa.esp.derive import TrafficKey, derive_traffic_key
from mcsa.esp.inner import UDP_HEADER, UDP_HEADER_SIZE, framed_size, payload_end
from mcsa.esp.replay import DEFAULT_WINDOW, MIN_WINDOW, ReplayWindow
from mcsa.esp.slab import ASSOCIATED_SIZE, HEADER_SIZE, Slab
from mcsa.esp.spi import SENDER_ID_BITS, SENDER_ID_LIMIT, epoch_tag
from mcsa.esp.suite import ICV_SIZE, Suite
from mcsa.keys import GroupKey

CAUSES = ("short", "own", "unknown-sender", "wrong-source", "unknown-epoch", "replay", "integrity", "inner")
"""Why a packet is dropped, in the order of the checks."""

_MIN_PACKET = HEADER_SIZE + framed_size(0) + ICV_SIZE  # bytes: an empty payload
_SENDER_ID_MASK = SENDER_ID_LIMIT - 1
_HEADER = struct.Struct(">II8s")  # SPI, sequence number, IV


class Opened(NamedTuple):
    """One packet that opened."""

    sender_id: int
    epoch: int
    sequence: int
    source_port: int
    destination_port: int
    payload: bytes


class Unproved(NamedTuple):
    """A packet that opened, and whose source is to be authenticated before anything is believed of it."""

    opened: Opened
    association: _Association

    def strike_out(self) -> bool:
        """Its source is proved: now the window may know. False where another packet of that number was, meanwhile."""
        window = self.association.window
        if not window.is_fresh(self.opened.sequence):
            return False
        window.strike_out(self.opened.sequence)
        return True


@dataclass(slots=True)
class Run:
    """Payloads of one sender with the same inner header, whose sequence numbers follow one another."""

    sender_id: int
    epoch: int
    first_sequence: int
    source_port: int
    destination_port: int
    payloads: list[bytes]


@dataclass(slots=True)
class OpenedBatch:
    """What a batch gave. `early` are whole packets of an epoch that isn't installed, of a known sender and source."""

    runs: list[Run] = field(default_factory=list)
    early: list[bytes] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)  # a cause for each packet dropped, the early ones too

    def reject(self, cause: str, *packet: bytes | memoryview) -> None:
        """Counts a packet that has no SA, and keeps a copy of the early one."""
        self.rejected.append(cause)
        if cause == "unknown-epoch":
            self.early.append(b"".join(packet))


class _Epoch:
    """An epoch that is installed, with the SAs of the senders heard in it. Dropping it drops them all."""

    __slots__ = ("associations", "key", "number")

    def __init__(self, number: int, key: GroupKey) -> None:
        self.number = number
        self.key = key
        self.associations: dict[int, _Association] = {}


class _Association:
    """One sender's SA in one epoch. It is in its epoch's `associations` only once a packet has opened."""

    __slots__ = ("decrypt", "epoch", "salt", "sender_id", "window")

    def __init__(self, key: TrafficKey, epoch: _Epoch, sender_id: int, window: int) -> None:
        self.decrypt = key.cipher().decrypt
        self.salt = key.salt
        self.epoch = epoch
        self.sender_id = sender_id
        self.window = ReplayWindow(window)

    def keep(self) -> None:
        """A packet has opened: the state is worth keeping, as long as the epoch is."""
        self.epoch.associations[self.sender_id] = self


class InboundAssociations:
    """Opens the packets of one group: whatever sender of the roster, whatever epoch is installed.

    A packet passes these checks, the cheap ones first, and nothing is derived before the sender and its outer source
    are known from the Authorizer's roster:

    ==================  ================================================================================
    `short`             it can't be an ESP packet of the group's suite
    `own`               it has a sender ID of our own: the network's copy of what we sent
    `unknown-sender`    the sender ID isn't in the roster, or the SPI is none of this group's
    `wrong-source`      it came from another address than the roster says
    `unknown-epoch`     no installed epoch has this tag. It may come: hold the packet for a moment (A4)
    `replay`            the number was seen before, or is older than the window
    `integrity`         the ICV is wrong
    `inner`             authentic, but there is no UDP datagram inside
    ==================  ================================================================================

    Threads: one thread opens; any may install, drop and set the roster meanwhile, since what changes is replaced
    whole. A batch that is being opened is finished under the epochs and roster that it found for each sender.
    """

    def __init__(self, domain: str, group_id: bytes, suite: Suite, window: int = DEFAULT_WINDOW) -> None:
        if window < MIN_WINDOW:
            raise ValueError(f"an anti-replay window has at least {MIN_WINDOW} packets, not {window}")
        self._domain = domain
        self._group_id = group_id
        self._suite = suite
        self._window = window
        self._changes = threading.Lock()  # between those that install and drop; who opens takes no lock
        self._epochs: Mapping[int, _Epoch] = {}  # by tag
        self._newest_dropped = -1
        self._roster: Mapping[int, str] = {}
        self._own: frozenset[int] = frozenset()
        self._counters = dict.fromkeys(("opened", *CAUSES), 0)

    @property
    def epochs(self) -> tuple[int, ...]:
        """The installed epochs, oldest first."""
        return tuple(sorted(epoch.number for epoch in self._epochs.values()))

    def install(self, epoch: int, group_key: GroupKey) -> None:
        """Packets of this epoch open from now on. Installing again what is installed does nothing.

        `ValueError` where another installed epoch has the same tag, where the epoch has another key already, or where
        it isn't newer than one that was dropped: its anti-replay windows are gone, so it can't come back.
        """
        tag = epoch_tag(epoch)
        with self._changes:
            there = self._epochs.get(tag)
            if there is not None:
                if (there.number, there.key) != (epoch, group_key):
                    raise ValueError(f"epoch {epoch} collides with epoch {there.number}, which is installed")
                return
            if epoch <= self._newest_dropped:
                raise ValueError(f"epoch {epoch} is not newer than epoch {self._newest_dropped}, which was dropped")
            self._epochs = {**self._epochs, tag: _Epoch(epoch, group_key)}

    def drop(self, epoch: int) -> None:
        """Packets of this epoch open no longer. Dropping what isn't installed does nothing."""
        with self._changes:
            remaining = {tag: there for tag, there in self._epochs.items() if there.number != epoch}
            if len(remaining) < len(self._epochs):
                self._newest_dropped = max(self._newest_dropped, epoch)
            self._epochs = remaining

    def set_roster(self, sources: Mapping[int, str], own: Collection[int] = ()) -> None:
        """The senders, by sender ID, with the address that each one's packets come from; and our own sender IDs."""
        self._roster, self._own = dict(sources), frozenset(own)

    def counters(self) -> dict[str, int]:
        """How many packets opened, and how many were dropped by each cause, up to now."""
        return dict(self._counters)

    def open(self, datagram: bytes | bytearray | memoryview, source: str) -> Opened:
        """The packet's content; `Rejected` with one of `CAUSES` otherwise. `source` is the outer source address."""
        if len(datagram) < _MIN_PACKET:
            raise self._rejected("short")
        spi, sequence, iv = _HEADER.unpack_from(datagram)
        found = self._find(spi, source)
        if isinstance(found, str):
            raise self._rejected(found)
        if not found.window.is_fresh(sequence):
            raise self._rejected("replay")
        try:
            plaintext = found.decrypt(found.salt + iv, memoryview(datagram)[HEADER_SIZE:], datagram[:ASSOCIATED_SIZE])
        except InvalidTag:
            raise self._rejected("integrity") from None
        found.window.strike_out(sequence)
        found.keep()
        end = payload_end(plaintext)
        if not end:
            raise self._rejected("inner")
        self._counters["opened"] += 1
        source_port, destination_port, _, _ = UDP_HEADER.unpack_from(plaintext)
        payload = plaintext[UDP_HEADER_SIZE:end]
        return Opened(found.sender_id, found.epoch.number, sequence, source_port, destination_port, payload)

    def open_unproved(self, datagram: bytes | bytearray | memoryview, source: str) -> Unproved:
        """As `open`, but the anti-replay window doesn't move: a member can seal what it likes under another's SPI, and
        must not be able to burn that one's numbers. `Unproved.strike_out`, once the source is authenticated."""
        if len(datagram) < _MIN_PACKET:
            raise self._rejected("short")
        spi, sequence, iv = _HEADER.unpack_from(datagram)
        found = self._find(spi, source)
        if isinstance(found, str):
            raise self._rejected(found)
        if not found.window.is_fresh(sequence):
            raise self._rejected("replay")
        view = memoryview(datagram)
        try:
            plaintext = found.decrypt(found.salt + iv, view[HEADER_SIZE:], view[:ASSOCIATED_SIZE])
        except InvalidTag:
            raise self._rejected("integrity") from None
        found.keep()  # one window for all that wait for their proof
        end = payload_end(plaintext)
        if not end:
            raise self._rejected("inner")
        self._counters["opened"] += 1
        source_port, destination_port, _, _ = UDP_HEADER.unpack_from(plaintext)
        payload = plaintext[UDP_HEADER_SIZE:end]
        opened = Opened(found.sender_id, found.epoch.number, sequence, source_port, destination_port, payload)
        return Unproved(opened, found)

    def _rejected(self, cause: str) -> Rejected:
        self._counters[cause] += 1
        return Rejected(cause)

    def open_batch(self, slab: Slab, length: int, segment_size: int, source: str) -> OpenedBatch:
        """What lies in the first `length` bytes of a slab: packets of `segment_size`, the last one perhaps shorter.

        That is how UDP_GRO hands over what arrived together, all from one outer source. Does to each packet what
        `open` does, but raises for none: see `rejected` and `counters`. An empty datagram is `short`; a size that no
        packet can have, which a kernel never says, is taken to be all of it.
        """
        batch = OpenedBatch()
        if segment_size <= 0 or not length:
            segment_size = length or 1
            batch.rejected.extend(["short"] * (not length))
        count, rest = divmod(length, segment_size)
        whole = length - rest
        if segment_size < _MIN_PACKET:
            batch.rejected.extend(["short"] * count)
        elif count:
            associated, bodies = slab.layout(segment_size, count)
            self._open_segments(slab.view[:whole], segment_size, associated, bodies, source, batch)
        if 0 < rest < _MIN_PACKET:
            batch.rejected.append("short")
        elif rest:
            self._open_segments(slab.view[whole:length], rest, *slab.single(whole, length), source, batch)
        self._count(batch)
        return batch

    def _open_segments(
        self,
        packets: memoryview,
        size: int,
        associated: Iterable[memoryview],
        bodies: Iterable[memoryview],
        source: str,
        batch: OpenedBatch,
    ) -> None:
        """The hot way in: packets of one size that lie one after another, with views of their parts.

        What packets have in common is looked up when it changes, not for each: the SA with the SPI, the inner header
        and trailer with the run (the size is the same, so what was checked once holds for all that begin and end
        alike). A run ends where a number is missing, so its first number says them all. Numbers that come in order
        above the window, as nearly all do, are struck out together, before anything else asks the window. The order of
        things stays: number, then AEAD, only then strike out.
        """
        found: _Association | str = ""
        last_spi, window, following = -1, ReplayWindow(), 1  # following: the number after the last that came in order
        before, after, payload_size = b"", b"", -1  # what surrounds a payload of the run; -1: no run
        payloads: list[bytes] = []
        layout = f"{_HEADER.format}{size - HEADER_SIZE}x"
        for (spi, sequence, iv), header, body in zip(struct.iter_unpack(layout, packets), associated, bodies):
            if spi != last_spi:
                window.strike_out_through(following - 1)
                last_spi, found, payload_size = spi, self._find(spi, source), -1
                if isinstance(found, _Association):
                    decrypt, salt, window = found.decrypt, found.salt, found.window
                    following = window.highest + 1
            if isinstance(found, str):
                batch.reject(found, header, iv, body)
                continue

            if sequence != following:
                window.strike_out_through(following - 1)
                if not window.is_fresh(sequence):
                    batch.rejected.append("replay")
                    continue
                payload_size = -1
            try:
                plaintext = decrypt(salt + iv, body, header)
            except InvalidTag:
                batch.rejected.append("integrity")
                continue
            if sequence == following:
                following += 1
            else:
                window.strike_out(sequence)
                following = window.highest + 1

            payload = plaintext.removeprefix(before).removesuffix(after)
            if len(payload) == payload_size:
                payloads.append(payload)
                continue
            found.keep()
            run = _start_run(found, sequence, plaintext, batch)
            payload_size = -1
            if run is not None and following == sequence + 1:  # one that came late is a run of its own
                payload_size, payloads = len(run.payloads[0]), run.payloads
                before, after = plaintext[:UDP_HEADER_SIZE], plaintext[UDP_HEADER_SIZE + payload_size :]
        window.strike_out_through(following - 1)

    def _find(self, spi: int, source: str) -> _Association | str:
        """The SA of a sender that may send from there, derived if need be; the cause of rejection otherwise."""
        tag, sender_id = spi >> SENDER_ID_BITS, spi & _SENDER_ID_MASK  # `split_spi`, without its call
        if sender_id in self._own:
            return "own"
        expected = self._roster.get(sender_id)
        if expected is None or tag == 0:
            return "unknown-sender"
        if source != expected:
            return "wrong-source"
        epoch = self._epochs.get(tag)
        if epoch is None:
            return "unknown-epoch"
        return epoch.associations.get(sender_id) or self._derive(epoch, sender_id)

    def _derive(self, epoch: _Epoch, sender_id: int) -> _Association:
        key = derive_traffic_key(epoch.key, self._domain, self._group_id, epoch.number, self._suite, sender_id)
        return _Association(key, epoch, sender_id, self._window)

    def _count(self, batch: OpenedBatch) -> None:
        counters = self._counters
        for run in batch.runs:
            counters["opened"] += len(run.payloads)
        for cause in batch.rejected:
            counters[cause] += 1


def _start_run(association: _Association, sequence: int, plaintext: bytes, batch: OpenedBatch) -> Run | None:
    """A new run that begins with this packet; None where its inside is malformed. The batch is told either way."""
    end = payload_end(plaintext)
    if not end:
        batch.rejected.append("inner")
        return None
    source_port, destination_port, _, _ = UDP_HEADER.unpack_from(plaintext)
    payloads = [plaintext[UDP_HEADER_SIZE:end]]
    run = Run(association.sender_id, association.epoch.number, sequence, source_port, destination_port, payloads)
    batch.runs.append(run)
    return run
