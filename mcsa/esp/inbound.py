"""Opening: all inbound SAs of one group, made as senders are heard (RFC 4303 section 3.4, design section 7)."""

from __future__ import annotations

import struct
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from mcsa.errors import Rejected
from mcsa.esp.derive import TrafficKey, derive_traffic_key
from mcsa.esp.inner import NO_FRAMING, UDP_HEADER_SIZE, framed_size, parse_framing
from mcsa.esp.replay import DEFAULT_WINDOW, MIN_WINDOW, ReplayWindow
from mcsa.esp.runs import OpenedBatch, Run, take_runs
from mcsa.esp.slab import ASSOCIATED_SIZE, HEADER_SIZE, WORD, Layout, Slab
from mcsa.esp.spi import epoch_tag, split_spi
from mcsa.esp.stretches import Stretch, stretches
from mcsa.esp.suite import ICV_SIZE, Suite
from mcsa.keys import GroupKey

__all__ = ["CAUSES", "InboundAssociations", "Opened", "OpenedBatch", "Run"]

CAUSES = ("short", "own", "unknown-sender", "wrong-source", "unknown-epoch", "replay", "integrity", "inner")
"""Why a packet is dropped, in the order of the checks."""

UNPROVEN_AT_MOST = 256
"""SAs in an epoch that are kept though no packet has opened: deriving costs ten times what opening does, and whoever
forges in the name of a sender that is silent would have us derive for each packet."""

_MIN_PACKET = HEADER_SIZE + framed_size(0) + ICV_SIZE  # bytes: an empty payload
_HEADER = struct.Struct(">II8s")  # SPI, sequence number, IV


class Opened(NamedTuple):
    """One packet that opened."""

    sender_id: int
    epoch: int
    sequence: int
    source_port: int
    destination_port: int
    payload: bytes


class _Epoch:
    """An epoch that is installed, with the SAs of the senders heard in it. Dropping it drops them all.

    `unproven` are SAs of senders in whose names packets came, none of which has opened.
    """

    __slots__ = ("associations", "key", "number", "unproven")

    def __init__(self, number: int, key: GroupKey) -> None:
        self.number = number
        self.key = key
        self.associations: dict[int, _Association] = {}
        self.unproven: dict[int, _Association] = {}  # at most `UNPROVEN_AT_MOST`, the oldest first


class _Association:
    """One sender's SA in one epoch. It is in its epoch's `associations` only once a packet has opened."""

    __slots__ = (
        "decrypt",
        "decrypt_into",
        "epoch",
        "framing",
        "kept",
        "ready",
        "salt",
        "sender_id",
        "source",
        "spi",
        "window",
    )

    def __init__(self, key: TrafficKey, epoch: _Epoch, sender_id: int, window: int) -> None:
        cipher = key.cipher()
        self.decrypt, self.decrypt_into = cipher.decrypt, cipher.decrypt_into
        self.salt = key.salt
        self.spi = key.spi
        self.epoch = epoch
        self.sender_id = sender_id
        self.window = ReplayWindow(window)
        self.framing = NO_FRAMING  # that of the packet before
        self.kept = False
        self.source = ""  # as the roster said when this was looked up
        self.ready: dict[int, _Association] = {}  # where this is found without looking it up

    def keep(self) -> None:
        """A packet has opened: the state is worth keeping, as long as the epoch is."""
        if not self.kept:
            self.kept = True
            self.epoch.associations[self.sender_id] = self
            self.epoch.unproven.pop(self.sender_id, None)
            self.ready[self.spi] = self


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

    def __init__(
        self,
        domain: str,
        group_id: bytes,
        suite: Suite,
        window: int = DEFAULT_WINDOW,
        *,
        moves_windows: bool = True,
    ) -> None:
        """`moves_windows`: what opened was said by its sender. Where that is to be proved yet, since any member can
        seal under another's SPI, no number is struck out here: see `window_of`."""
        if window < MIN_WINDOW:
            raise ValueError(f"an anti-replay window has at least {MIN_WINDOW} packets, not {window}")
        self._domain = domain
        self._group_id = group_id
        self._suite = suite
        self._window = window
        self._moves_windows = moves_windows
        self._changes = threading.Lock()  # between those that install and drop; who opens takes no lock
        self._epochs: Mapping[int, _Epoch] = {}  # by tag
        self._newest_dropped = -1
        self._roster: Mapping[int, str] = {}
        self._own: frozenset[int] = frozenset()
        self._ready: dict[int, _Association] = {}  # by SPI; another one as soon as epochs or roster are others
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
            self._ready = {}

    def drop(self, epoch: int) -> None:
        """Packets of this epoch open no longer. Dropping what isn't installed does nothing."""
        with self._changes:
            remaining = {tag: there for tag, there in self._epochs.items() if there.number != epoch}
            if len(remaining) < len(self._epochs):
                self._newest_dropped = max(self._newest_dropped, epoch)
            self._epochs = remaining
            self._ready = {}

    def set_roster(self, sources: Mapping[int, str], own: Collection[int] = ()) -> None:
        """The senders, by sender ID, with the address that each one's packets come from; and our own sender IDs."""
        with self._changes:
            self._roster, self._own = dict(sources), frozenset(own)
            self._ready = {}

    def counters(self) -> dict[str, int]:
        """How many packets opened, and how many were dropped by each cause, up to now."""
        return dict(self._counters)

    def window_of(self, epoch: int, sender_id: int) -> ReplayWindow:
        """The anti-replay window of a sender of whom a packet has just opened, for who has that packet's source proved:
        `ReplayWindow.take` then, at once or later."""
        return self._epochs[epoch_tag(epoch)].associations[sender_id].window

    def open(self, datagram: bytes | bytearray | memoryview, source: str) -> Opened:
        """The packet's content; `Rejected` with one of `CAUSES` otherwise. `source` is the outer source address."""
        opened = self._open_one(datagram, source)
        if isinstance(opened, str):
            self._counters[opened] += 1
            raise Rejected(opened)
        self._counters["opened"] += 1
        return opened

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
        if count > 1 and segment_size >= _MIN_PACKET and segment_size % WORD == 0:
            layout = slab.layout(segment_size, count)
            for stretch in stretches(layout, count):
                self._open_stretch(slab, layout, stretch, source, batch)
        else:
            for start in range(0, count * segment_size, segment_size):
                self._open_into(batch, slab.view[start : start + segment_size], source)
        if rest:
            self._open_into(batch, slab.view[length - rest : length], source)
        self._count(batch)
        return batch

    def _open_one(self, packet: bytes | bytearray | memoryview, source: str) -> Opened | str:
        """The packet's content, or why it is dropped. Counts nothing."""
        if len(packet) < _MIN_PACKET:
            return "short"
        spi, sequence, iv = _HEADER.unpack_from(packet)
        found = self._find(spi, source)
        if isinstance(found, str):
            return found
        window = found.window
        if sequence <= window.highest and not window.is_fresh(sequence):
            return "replay"
        try:
            plaintext = found.decrypt(found.salt + iv, packet[HEADER_SIZE:], packet[:ASSOCIATED_SIZE])
        except InvalidTag:
            return "integrity"
        if self._moves_windows:
            window.strike_out(sequence)
        found.keep()
        size, head, trailer, end, source_port, destination_port = found.framing
        if len(plaintext) != size or not plaintext.startswith(head) or not plaintext.endswith(trailer):
            framing = parse_framing(plaintext)
            if framing is None:
                return "inner"
            found.framing = framing
            size, head, trailer, end, source_port, destination_port = framing
        payload = plaintext[UDP_HEADER_SIZE:end]
        return Opened(found.sender_id, found.epoch.number, sequence, source_port, destination_port, payload)

    def _open_into(self, batch: OpenedBatch, packet: memoryview, source: str) -> None:
        opened = self._open_one(packet, source)
        if isinstance(opened, str):
            batch.reject(opened, packet)
        else:
            sender_id, epoch, sequence, source_port, destination_port, payload = opened
            batch.runs.append(Run(sender_id, epoch, sequence, source_port, destination_port, [payload]))

    def _open_stretch(self, slab: Slab, layout: Layout, stretch: Stretch, source: str, batch: OpenedBatch) -> None:
        """The hot way in: packets of one SA whose numbers follow one another, all above the window.

        Nothing is done packet by packet but in C: `map` calls the cipher with views that the slab made once, and one
        comparison each says that ports, lengths and trailers are alike. The order of things stays: number, then AEAD,
        only then strike out. Plaintexts that the cipher wrote before it found the ICV wrong are never looked at.
        """
        start, end, spi, sequence = stretch
        if end - start == 1:
            self._open_into(batch, layout.packet(start), source)
            return
        found = self._find(spi, source)
        if isinstance(found, str):
            for packet in map(layout.packet, range(start, end)):
                batch.reject(found, packet)
            return
        if sequence <= found.window.highest:
            for packet in map(layout.packet, range(start, end)):
                self._open_into(batch, packet, source)
            return
        slab.write_nonces(layout, start, end, found.salt)
        place = start
        while place < end:
            opened = place + _decrypt(found, slab, layout, place, end)
            if opened > place:
                number = sequence + place - start
                if self._moves_windows:
                    found.window.strike_out(number)
                    found.window.strike_out_through(number + opened - place - 1)
                found.keep()
                take_runs(found.sender_id, found.epoch.number, number, layout, place, opened, batch)
            if opened < end:
                batch.rejected.append("integrity")
            place = opened + 1

    def _find(self, spi: int, source: str) -> _Association | str:
        """The SA of a sender that may send from there, derived if need be; the cause of rejection otherwise."""
        found = self._ready.get(spi)
        return found if found is not None and found.source == source else self._look_up(spi, source)

    def _look_up(self, spi: int, source: str) -> _Association | str:
        ready = self._ready  # first: who changes epochs or roster replaces it last, so this one is as old or older
        tag, sender_id = split_spi(spi)
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
        found = epoch.associations.get(sender_id) or epoch.unproven.get(sender_id) or self._derive(epoch, sender_id)
        found.source, found.ready = source, ready
        if found.kept:
            ready[spi] = found
        return found

    def _derive(self, epoch: _Epoch, sender_id: int) -> _Association:
        key = derive_traffic_key(epoch.key, self._domain, self._group_id, epoch.number, self._suite, sender_id)
        if len(epoch.unproven) == UNPROVEN_AT_MOST:
            del epoch.unproven[next(iter(epoch.unproven))]
        association = epoch.unproven[sender_id] = _Association(key, epoch, sender_id, self._window)
        return association

    def _count(self, batch: OpenedBatch) -> None:
        counters = self._counters
        for run in batch.runs:
            counters["opened"] += len(run.payloads)
        for cause in batch.rejected:
            counters[cause] += 1


def _decrypt(association: _Association, slab: Slab, layout: Layout, start: int, end: int) -> int:
    """Decrypts packets into the layout's plaintexts, up to the first that fails; how many didn't fail."""
    done: list[int] = []
    nonces = slab.nonces[start:end]  # the first argument ends the map
    rest = (views[start:] if start else views for views in (layout.bodies, layout.associated, layout.plaintexts))
    with suppress(InvalidTag):
        done.extend(map(association.decrypt_into, nonces, *rest))
    return len(done)
