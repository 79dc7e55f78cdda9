r"""One group that a host sends to without being a member of it (paper, section 2.3.1). Sans-I/O, and without a bus.

    opening -> registering -> sending-only <-> silenced
                                       \-> stale (registers again: the Authorizer knows it no longer, or began anew)

What such a host has is the key of its own packets in one epoch. It can't follow the group's updates, which are sealed
to members; that there is a newer epoch it learns from beacons, which the Authorizer signs and doesn't seal. Then it
asks for its own key in that one (`KeyWanted`).

It stops when it should, by itself: where it hears no beacon for the policy's time, as members do; and where it knows
of a newer epoch and gets no key of it for as long as an ejection's overlap, since the old one may be somebody's who was
thrown out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcsa.errors import Rejected
from mcsa.esp.derive import TrafficKey
from mcsa.esp.spi import spi_for
from mcsa.esp.suite import suite_named
from mcsa.identity import SpiffeId
from mcsa.keys import Random
from mcsa.membership import CLOCK_EACH, EPOCHS_SHOWN, LATE_BEACON, RENEWAL_JITTER, RENEWALS, Changed, home_of
from mcsa.path_control import PauseSending, ResumeSending, SendUnder, SetClock, SetSource
from mcsa.source_authentication import ClockBound, SourceKey, mode_named
from mcsa.trust import Trust
from mcsa.updates import open_beacon, parse_message
from mcsa.v1.authorizer_pb2 import SendingAssociation
from mcsa.v1.types_pb2 import GroupDescription, SignedStatement

ASK_JITTER = 0.05  # seconds: all send-only hosts of a group hear of a new epoch at once; an overlap lasts 500 ms
ASK_EACH = 0.2  # seconds between questions for the key of an epoch that is known to be there; doubled each time
ASK_AT_LEAST_EACH = 5.0  # seconds, however often it was asked
SENDS, SILENCED, STALE = "sending-only", "silenced", "stale"


@dataclass(frozen=True, slots=True)
class KeyWanted:
    """Tell the Authorizer that this host is still there, and ask for the key of an epoch after `have_epoch`."""

    sender_id: int
    have_epoch: int


@dataclass
class SendOnlyGroup:
    """See the module."""

    group: GroupDescription
    authorizer: str  # the one that the Coordinator named; beacons are signed by it
    conference_id: bytes
    user: str
    trust: Trust
    random: Random
    state: str = "opening"
    socket_path: str = ""
    description: SignedStatement | None = None
    sender_id: int | None = None
    epoch: int = 0  # the newest one that there is a key of
    epochs: list[int] = field(default_factory=list)
    switched_at: float = 0.0
    last_beacon: bytes = b""  # of an epoch that this host had a key of, as received
    clock: ClockBound | None = None  # the Authorizer's, where the policy needs it

    def __post_init__(self) -> None:
        self._used: set[tuple[int, int]] = set()  # epochs and sender IDs that there was a key of: no key comes twice
        self._next: tuple[float, SendUnder] | None = None  # the key of an epoch that members switch to then
        self._heard_at = 0.0
        self._last_heard = (0, 0)  # time and epoch of the last beacon: two of one millisecond may tell of two epochs
        self._known_epoch = 0  # the newest that beacons tell of
        self._stop_at: float | None = None  # where there is no key of that one by then
        self._ask_at: float | None = None
        self._ask_each = ASK_EACH
        self._renew_at = 0.0

    @property
    def domain(self) -> str:
        """Under which the keys of packets derive."""
        return SpiffeId.parse(self.authorizer).domain

    # ---- keys

    def draw_source_key(self) -> SourceKey | None:
        """As `Membership.draw_source_key`."""
        mode = mode_named(self.group.policy.source_authentication)
        return SourceKey() if mode.promises.authenticates else None

    def install(self, association: SendingAssociation, now: float, source_key: SourceKey | None = None) -> list[Any]:
        """The answer to a registration; `Rejected("association")` where it isn't what was asked for. `source_key`: as
        it was asked with."""
        same = (
            (association.group.group_id, association.group.address) == (self.group.group_id, self.group.address)
            and association.group.port == self.group.port
            and association.conference_id == self.conference_id
        )
        if not same:
            raise Rejected("association", "of another group, address or conference than was announced")
        if home_of(association.description) != self.authorizer:
            raise Rejected("association", "of a conference that is at home at another Authorizer than was announced")
        if association.group.policy.source_authentication != self.group.policy.source_authentication:
            raise Rejected("association", "of another source authentication than was announced")
        switch = self._switch_to(association, association.group)
        self.group, self.description = association.group, association.description
        self.sender_id = association.sender_id
        self.state, self._heard_at, self._renew_at = SENDS, now, self._next_renewal(now)
        self._known_epoch = max(self._known_epoch, self.epoch)
        self._next = self._stop_at = self._ask_at = None
        source = [] if source_key is None else [self._source(association.sender_id, source_key)]
        return [*source, *self._send(switch, now), *self._catch_up(now)]

    def _source(self, sender_id: int, key: SourceKey) -> SetSource:
        group_id = self.group.group_id
        return SetSource(group_id, sender_id, key, group_id)

    def clock_heard(self, asked_at: float, time_ms: int, now: float) -> list[Any]:
        """As `Membership.clock_heard`."""
        if not self.needs_clock or not time_ms or now < asked_at:
            return []
        bound = ClockBound.by(asked_at, now, time_ms / 1000)
        self.clock = bound if self.clock is None else self.clock.refined(bound)
        return [SetClock(self.group.group_id, self.clock)]

    def clock_set(self, now: float) -> list[Any]:
        """As `Membership.clock_set`."""
        if self.needs_clock:
            self.clock, self._renew_at = None, now
        return []

    @property
    def needs_clock(self) -> bool:
        """Of the Authorizer."""
        return mode_named(self.group.policy.source_authentication).needs_clock

    def renewed(self, association: SendingAssociation | None, now: float) -> list[Any]:
        """The answer to `KeyWanted`; None where there is nothing new. `Rejected` as above."""
        if self.state not in (SENDS, SILENCED):
            return []
        self._renew_at = self._next_renewal(now)
        if association is None or association.epoch <= self.epoch:
            return []
        if association.sender_id != self.sender_id:
            raise Rejected("association", "for another sender ID than this host's")
        switch = self._switch_to(association, self.group)
        self._known_epoch = max(self._known_epoch, self.epoch)
        self._next = (now + association.activation_ms / 1000, switch)
        self._stop_at = self._ask_at = None
        return [Changed("rekeyed"), *self._catch_up(now), *self.woken(now)]

    def _switch_to(self, association: SendingAssociation, group: GroupDescription) -> SendUnder:
        epoch, sender_id, suite = association.epoch, association.sender_id, suite_named(group.policy.suite)
        if epoch < self.epoch or (epoch, sender_id) in self._used:
            raise Rejected("association", "an epoch that was")
        try:
            key = TrafficKey(association.keymat, suite, spi_for(epoch, sender_id))
        except ValueError:
            raise Rejected("association", "no key of the group's suite, or no sender ID") from None
        self._used.add((epoch, sender_id))
        self.epoch = epoch
        self.epochs = [*self.epochs[-EPOCHS_SHOWN:], epoch]
        return SendUnder(group.group_id, epoch, sender_id, key)

    def _send(self, switch: SendUnder, now: float) -> list[Any]:
        self.state, self.switched_at = SENDS, now
        return [switch, Changed("switched", switched_at=now)]

    # ---- beacons

    def message_arrived(self, payload: bytes, now: float) -> list[Any]:
        """A `GroupMessage` off the bus: of these, beacons are for such a host. `Rejected` for what is none of the
        Authorizer's."""
        if self.state not in (SENDS, SILENCED):
            return []
        message = parse_message(payload)
        if not message.HasField("beacon"):
            return []
        beacon = open_beacon(message.beacon, self.group.group_id, self.trust, self.authorizer, now)
        if (beacon.time_ms, beacon.epoch) <= self._last_heard:
            return []
        self._last_heard, self._heard_at = (beacon.time_ms, beacon.epoch), now
        if beacon.epoch < self.epoch:
            late = beacon.time_ms <= self.epoch + LATE_BEACON  # of just before this epoch
            return [] if late else self._stale("the Authorizer is in an older epoch: it has lost its past")
        if beacon.epoch == self.epoch:
            self.last_beacon = message.beacon
        self._known_epoch = max(self._known_epoch, beacon.epoch)
        return [*self._resume(), *self._catch_up(now)]

    def _resume(self) -> list[Any]:
        """Beacons are heard again: it goes on where the epoch that it sends under is the newest."""
        if self.state != SILENCED or self._known_epoch > self.epoch or self._next is not None:
            return []
        self.state = SENDS
        return [ResumeSending(self.group.group_id), Changed("resumed", "the Authorizer is heard again")]

    def _catch_up(self, now: float) -> list[Any]:
        """Asks for the key of the newest epoch, where it isn't there."""
        if self._known_epoch > self.epoch and self._ask_at is None:
            self._ask_at, self._ask_each = now + ASK_JITTER * self._draw(), ASK_EACH
            overlap = self.group.policy.ejection_deactivation_ms / 1000
            self._stop_at = now + overlap if self.state == SENDS else None
        return []

    def lost(self, why: str) -> list[Any]:
        """The Authorizer doesn't know this host as one that sends."""
        return self._stale(why)

    def _stale(self, why: str) -> list[Any]:
        if self.state == STALE:
            return []
        self.state, self._next = STALE, None
        return [PauseSending(self.group.group_id), Changed("statement-needed", why)]

    # ---- time

    def woken(self, now: float) -> list[Any]:
        """Switches, questions and silences that are due."""
        if self.state not in (SENDS, SILENCED):
            return []
        effects: list[Any] = []
        if self._next is not None and now >= self._next[0]:
            (_, switch), self._next = self._next, None
            effects += self._send(switch, now)
        asks = self._ask_at is not None and now >= self._ask_at
        if (asks or now >= self._renew_at) and self.sender_id is not None:
            if asks:
                self._ask_at, self._ask_each = now + self._ask_each, min(2 * self._ask_each, ASK_AT_LEAST_EACH)
            self._renew_at = self._next_renewal(now)
            effects.append(KeyWanted(self.sender_id, self.epoch))
        if self.state == SENDS and now >= self._silent_at():
            effects += self._silence("no beacon of the Authorizer: an ejection may have been kept from us")
        if self.state == SENDS and self._stop_at is not None and now >= self._stop_at:
            effects += self._silence("there is a newer epoch, and no key of it yet")
        return effects

    def _silence(self, why: str) -> list[Any]:
        self.state, self._stop_at = SILENCED, None
        return [PauseSending(self.group.group_id), Changed("silenced", f"{why}, so nothing more is sent")]

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        if self.state not in (SENDS, SILENCED):
            return None
        times = [self._renew_at]
        times += [self._next[0]] if self._next is not None else []
        times += [self._ask_at] if self._ask_at is not None else []
        if self.state == SENDS:
            times += [self._silent_at(), *([self._stop_at] if self._stop_at is not None else [])]
        return min(times)

    def _silent_at(self) -> float:
        return self._heard_at + self.group.policy.beacon_silence_ms / 1000

    def _next_renewal(self, now: float) -> float:
        between = self.group.policy.lease_s / RENEWALS
        between = min(between, CLOCK_EACH) if self.needs_clock else between
        return now + between * (1 - RENEWAL_JITTER * self._draw())

    def _draw(self) -> float:
        return int.from_bytes(self.random(2), "big") / 65536
