r"""One group on one host: from registration to ejection. Sans-I/O, and without a bus: `core.py` asks for it.

    opening -> registering -> member <-> silenced
                                |  \-> stale (registers again: missed too much, or the Authorizer began anew)
                                \-> ejected

What a member believes of its group comes from the Authorizer's signature alone: the sealed association, numbered
updates, beacons. A gap or an unknown epoch is a hint, worth one repair a second at most. It never guesses and never
goes back to an older epoch.

Where a distributor welcomed this host, the Authorizer's signature is on the distributor's right only. So such a member
listens, and sends nothing until an update of the Authorizer's has it in the roster: it never talks to those alone who
share a key with a distributor that was thrown out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from mcsa.distribution import covers
from mcsa.errors import Rejected
from mcsa.esp.spi import epoch_tag
from mcsa.gkm import Distributor, Excluded, Joining, Member, scheme_named
from mcsa.identity import SpiffeId
from mcsa.keys import GroupKey, Random
from mcsa.path_control import (
    DropEpoch,
    InstallEpoch,
    PauseSending,
    ResumeSending,
    SetClock,
    SetRoster,
    SetSource,
    SwitchSending,
)
from mcsa.senders import Senders
from mcsa.source_authentication import ClockBound, SourceKey, mode_named
from mcsa.trust import Trust
from mcsa.update_parts import UpdateReassembly
from mcsa.updates import open_beacon, open_update, parse_message, parse_update, update_key
from mcsa.v1.authorizer_pb2 import DistributionRight, GroupSecurityAssociation, GroupUpdate
from mcsa.v1.types_pb2 import ConferenceDescription, GroupDescription, RosterEntry, SignedStatement

REPAIR_EACH = 1.0  # seconds: at most one repair per group (design, section 6)
REPAIR_JITTER = 0.2  # seconds
ADOPTED_AFTER = 5.0  # seconds after which a member that a distributor welcomed asks the Authorizer about itself
RENEWALS = 3  # in the time of a lease: two may be lost
ASK_AGAIN_AFTER = 5.0  # seconds after which a registration that is needed is asked for again
RENEWAL_JITTER = 0.2  # of the time between them
REACH = 32  # updates that may be on their way at once; what is further ahead is left to beacons and repair
EARLY_BYTES = 2 << 20  # of updates kept until the one before them comes
EPOCHS_SHOWN = 64
CLOCK_EACH = 20.0  # seconds after which the Authorizer's time is asked for again, where it is needed (`tesla`)
LATE_BEACON = 5_000  # milliseconds after an epoch's number, which is its time, for beacons of the one before


@dataclass(frozen=True, slots=True)
class Changed:
    """Something the CSM should know; `what` as in `GroupChanged.change`."""

    what: str
    remark: str = ""
    traceparent: str | None = None
    switched_at: float = 0.0


@dataclass(frozen=True, slots=True)
class RepairWanted:
    """Ask the Authorizer for the updates after `have_number`."""

    have_number: int


@dataclass(frozen=True, slots=True)
class RenewalWanted:
    """Tell the Authorizer that this host is still here."""


@dataclass(frozen=True, slots=True)
class Followed:
    """An update was applied, in a membership that `passes_on`; `key` is the group's after it."""

    update: GroupUpdate
    key: GroupKey


@dataclass
class Membership:
    """See the module."""

    group: GroupDescription
    authorizer: str  # who serves this host: associations, updates and beacons are signed by it
    home: str  # the Authorizer that the Coordinator named; the same, but where this domain's serves for it
    conference_id: bytes
    host: str
    trust: Trust
    random: Random
    state: str = "opening"
    socket_path: str = ""
    users: set[str] = field(default_factory=set)
    description: SignedStatement | None = None
    sender_id: int | None = None
    epoch: int = 0
    number: int = 0
    epochs: list[int] = field(default_factory=list)
    switched_at: float = 0.0
    as_agent: bool = False  # in the backbone of the subgroup that this host is the relaying agent of: for nobody
    passes_on: bool = False  # of an Authorizer that keys the group for its own domain: updates are `Followed`
    backbone: GroupDescription | None = None  # of a subgroup
    own_relay: int | None = None  # this host's sender ID for relaying into the group, where it is an agent
    departed: set[str] = field(default_factory=set)  # hosts and users that went in ejections, as far as heard
    last_beacon: bytes = b""  # of an epoch that this host was in, as received: what the Authorizer said
    clock: ClockBound | None = None  # the Authorizer's, as it is known here; where the policy needs it

    def __post_init__(self) -> None:
        self.asked = self.group  # as it was announced; of a protocol of subgroups, `group` is the one that it is in
        self._member: Member | None = None
        self._key: GroupKey | None = None
        self._switches: list[tuple[float, int, str | None]] = []
        self._sending_epoch = 0
        self._confirmed_epoch = 0  # the newest by the Authorizer's own word; a distributor's may be a lie
        self._drops: list[tuple[float, int]] = []
        self._early: dict[int, bytes] = {}
        self._parts = UpdateReassembly()
        self._repair_at: float | None = None
        self._repaired_at = 0.0
        self._heard_at = 0.0
        self._beacon_ms = 0
        self._renew_at: float | None = None
        self._stale_why = ""
        self._ask_again_at: float | None = None
        self._senders = Senders(self.authorizer)
        self._source_key: SourceKey | None = None  # this registration's own
        self._promised: int | None = None  # a sender ID that a distributor gave, and the Authorizer hasn't yet told of

    @property
    def distributor(self) -> Distributor | None:
        """By which it could welcome others, while it is a member that follows the group and is known to it."""
        able = self.state == "member" and self.sender_id is not None
        return self._member if able and isinstance(self._member, Distributor) else None

    # ---- registration

    def begin(self) -> Joining:
        """A member's half of the group's GKM, fresh for each registration."""
        return scheme_named(self.group.policy.gkm).begin(self.random)

    @property
    def roster(self) -> Mapping[int, RosterEntry]:
        """All senders, by sender ID."""
        return self._senders.entries

    @property
    def authenticates_sources(self) -> bool:
        """By the group's policy."""
        return mode_named(self.asked.policy.source_authentication).promises.authenticates

    def draw_source_key(self) -> SourceKey | None:
        """For a registration as a sender, fresh for each; None where the group's policy needs none."""
        return SourceKey() if self.authenticates_sources and not self.as_agent else None

    def install(
        self,
        joining: Joining,
        gsa: GroupSecurityAssociation,
        now: float,
        right: DistributionRight | None = None,
        source_key: SourceKey | None = None,
    ) -> list[Any]:
        """Takes over a security association; `Rejected` where it is not the one that was asked for. `right`: where a
        distributor made it, under this right. `source_key`: as it was asked with."""
        self.check(gsa)
        member = joining.finish(gsa.gkm_welcome)
        if right is not None:
            self._check_distributed(gsa, member, right)
        entered = gsa.epoch == self.epoch and member.key == self._key  # by a distributor's welcome
        been = self.epochs if self.epoch == self._confirmed_epoch else self.epochs[:-1]
        if gsa.epoch in been and not entered:
            raise Rejected("association", "an epoch that was")
        old = self.epochs[-1:] if gsa.epoch != self.epoch else []
        self._member, self._key = member, member.key
        self.group = gsa.group if right is None else self.group
        self.backbone = gsa.backbone if gsa.HasField("backbone") else None
        self.description = gsa.description
        given = gsa.sender_id if gsa.HasField("sender_id") and not self.as_agent else None
        self.sender_id, self._promised = (given, None) if right is None else (None, given)
        self.number = gsa.update_number
        self._senders, self._source_key = Senders(self.authorizer, vouched_for=right is None), source_key
        self._early = {number: raw for number, raw in self._early.items() if number > self.number}
        self._heard_at = now
        self._renew_at = self._next_renewal(now) if right is None else now + ADOPTED_AFTER
        if self.needs_clock and right is None:  # this answer waited for a flush: ask what is quick
            self._renew_at = now
        self._switches = []
        self.departed.clear()
        self.state = "member"
        self._senders.change((), gsa.roster)
        effects: list[Any] = [self._set_roster(), *([] if entered else self._enter(gsa.epoch))]
        self._confirmed_epoch = gsa.epoch if right is None else self._confirmed_epoch
        effects += self._set_source()
        self._drops += [(now + self.group.policy.deactivation_ms / 1000, epoch) for epoch in old]
        return effects + self._send_under(gsa.epoch, now)

    def _set_source(self) -> list[Any]:
        if self._source_key is None or self.sender_id is None:
            return []
        return [SetSource(self.group.group_id, self.sender_id, self._source_key, self.asked.group_id)]

    def enter(self, subgroup: GroupDescription) -> None:
        """It is to be in this subgroup, of which nothing is known yet; with what it was in before it has nothing to do
        any more, not even as its relaying agent."""
        self.group, self.socket_path = subgroup, ""
        self.state = "stale" if self.state in ("member", "silenced") else self.state
        self._member = self._key = self.own_relay = self.backbone = self._repair_at = None
        self.epoch, self.epochs, self.last_beacon, self._beacon_ms = 0, [], b"", 0
        self._confirmed_epoch = 0
        self._drops, self._switches, self._early = [], [], {}

    @property
    def key(self) -> GroupKey:
        """The group key; `ValueError` before it is a member."""
        if self._key is None:
            raise ValueError("no member yet, or no longer")
        return self._key

    @property
    def domain(self) -> str:
        """Under which the keys of packets derive, on all hosts: the home's."""
        return SpiffeId.parse(self.home).domain

    @property
    def has_subgroups(self) -> bool:
        """Which subgroup it is in, the Authorizer says."""
        return scheme_named(self.asked.policy.gkm).subgroups and not self.as_agent

    @property
    def is_agent(self) -> bool:
        """This host is the relaying agent of the subgroup that it is in."""
        in_it = self.state in ("member", "silenced", "stale")
        return in_it and self.own_relay is not None and self.backbone is not None

    def check(self, gsa: GroupSecurityAssociation) -> None:
        """`Rejected` unless the association is of the group that was asked for, or of a subgroup of it, and is newer
        than what is here."""
        announced = gsa.backbone if self.has_subgroups and gsa.HasField("backbone") else gsa.group
        same = (
            (announced.group_id, announced.address) == (self.asked.group_id, self.asked.address)
            and gsa.group.port == self.asked.port
            and gsa.conference_id == self.conference_id
        )
        if not same:
            raise Rejected("association", "of another group, address or conference than was announced")
        if home_of(gsa.description) != self.home:
            raise Rejected("association", "of a conference that is at home at another Authorizer than was announced")
        if gsa.group.policy.source_authentication != self.asked.policy.source_authentication:
            raise Rejected("association", "of another source authentication than was announced")
        if gsa.epoch < self._confirmed_epoch and gsa.group.group_id == self.group.group_id:
            raise Rejected("association", "an older epoch")

    def _check_distributed(self, gsa: GroupSecurityAssociation, member: Member, right: DistributionRight) -> None:
        if not isinstance(member, Distributor) or member.authority_public_key != right.authority_public_key:
            raise Rejected("authority", "the welcome leads to another group than the Authorizer signed for")
        if not gsa.HasField("sender_id") or not covers(right, gsa.sender_id):
            raise Rejected("sender-id", "not the distributor's to give")
        if gsa.group.policy != self.group.policy:
            raise Rejected("association", "of another policy than was announced")

    def _enter(self, epoch: int) -> list[Any]:
        assert self._key is not None
        # one packet can't be of two epochs: an old one with the same tag (after a restart, one in 4,095) goes first
        alike = [
            old for old in {*(old for _, old in self._drops), self.epoch} if old and epoch_tag(old) == epoch_tag(epoch)
        ]
        self.epoch = epoch
        self.epochs = [*self.epochs[-EPOCHS_SHOWN:], epoch]
        group_id = self.group.group_id
        return [*(DropEpoch(group_id, old) for old in alike), InstallEpoch(group_id, epoch, self._key)]

    def _set_roster(self) -> SetRoster:
        relays = self.has_subgroups or self.as_agent
        self.own_relay = self._senders.relay_of(self.host) if relays else None
        return self._senders.told(self.group.group_id, self.sender_id, self.own_relay, self.asked.group_id)

    def _send_under(self, epoch: int, now: float) -> list[Any]:
        """Under every sender ID of this host's."""
        self._sending_epoch, self.switched_at = epoch, now
        group_id, effects = self.group.group_id, list[Any]()
        if self.sender_id is not None:
            effects.append(SwitchSending(group_id, epoch, self.sender_id))
        if self.own_relay is not None:
            effects.append(SwitchSending(group_id, epoch, self.own_relay, relaying=True))
        return effects

    # ---- updates and beacons

    def message_arrived(self, payload: bytes, now: float) -> list[Any]:
        """A `GroupMessage`, from wherever; raises `Rejected` for what is none, or not the Authorizer's."""
        if self._key is None or self.state in ("ejected", "opening", "registering"):
            return []
        message = parse_message(payload)
        if message.HasField("beacon"):
            return self._beacon(message.beacon, now)
        if message.HasField("update"):
            return self._update(message.update, now)
        whole = self._parts.take(message.part, self._awaited())
        return [] if whole is None else self._update(whole, now)

    def _awaited(self) -> range:
        return range(self.number + 1, self.number + 1 + REACH)

    def _update(self, raw: bytes, now: float) -> list[Any]:
        sealed = parse_update(raw)
        if sealed.group_id != self.group.group_id:
            raise Rejected("recipient", "an update of another group")
        if self._key is None or sealed.number <= self.number:
            return []
        if sealed.number > self.number + 1:
            self._keep_early(sealed.number, raw)
            return self.hint(now)
        key = update_key(self._key, self.group.group_id, self.epoch)
        effects = self._apply(open_update(sealed, key, self.trust, self.authorizer, now), now)
        return effects + self._follow_up(now)

    def _keep_early(self, number: int, raw: bytes) -> None:
        kept = sum(len(early) for early in self._early.values())
        if number in self._awaited() and kept + len(raw) <= EARLY_BYTES:
            self._early[number] = raw

    def _follow_up(self, now: float) -> list[Any]:
        """The next update, where it came before its time. A fellow member may have forged that one, and no more than
        that one is lost."""
        early = self._early.pop(self.number + 1, None)
        try:
            return [] if early is None else self._update(early, now)
        except Rejected:
            return self.hint(now)

    def _beacon(self, raw: bytes, now: float) -> list[Any]:
        beacon = open_beacon(raw, self.group.group_id, self.trust, self.authorizer, now)
        if beacon.time_ms <= self._beacon_ms:
            return []
        self._beacon_ms = beacon.time_ms
        effects = self._heard(now)
        if beacon.epoch == self.epoch:
            self.last_beacon = raw
        if beacon.epoch < self.epoch and beacon.time_ms <= self.epoch + LATE_BEACON:
            return effects  # of just before this epoch, and overtaken by the update to it
        if beacon.epoch < self.epoch:
            return effects + self._stale("the Authorizer is in an older epoch: it has lost its past")
        if beacon.epoch > self.epoch and beacon.update_number <= self.number:  # an epoch comes with a number of its own
            return effects + self._stale("the Authorizer came to its epoch by another way: it has lost its past")
        if beacon.update_number != self.number or beacon.epoch != self.epoch:
            effects += self.hint(now)
        return effects

    def _heard(self, now: float) -> list[Any]:
        self._heard_at = now
        if self.state != "silenced":
            return []
        self.state = "member"
        return [ResumeSending(self.group.group_id), Changed("resumed", "the Authorizer is heard again")]

    def hint(self, now: float) -> list[Any]:
        """Something suggests that an update was missed: repair, soon, but not more often than once a second."""
        if self._repair_at is None and self.state in ("member", "silenced"):
            jitter = int.from_bytes(self.random(2), "big") / 65536 * REPAIR_JITTER
            self._repair_at = max(now, self._repaired_at + REPAIR_EACH) + jitter
        return []

    def repaired(self, updates: list[bytes], register_again: bool, now: float) -> list[Any]:
        """What the Authorizer answered to a repair."""
        effects: list[Any] = []
        for raw in updates:
            try:
                effects += self._update(raw, now)
            except Rejected as rejected:
                return effects + self._stale(f"a repaired update could not be used: {rejected}")
        return effects + self._stale("missed too much") if register_again else effects

    def lost(self, why: str) -> list[Any]:
        """The Authorizer doesn't know this host as a member any more."""
        return self._stale(why)

    @property
    def needs_clock(self) -> bool:
        """Of the Authorizer."""
        return mode_named(self.asked.policy.source_authentication).needs_clock

    def clock_heard(self, asked_at: float, time_ms: int, now: float) -> list[Any]:
        """The Authorizer has said what time it is, in answer to what was asked at `asked_at`."""
        if not self.needs_clock or not time_ms or now < asked_at:  # the own clock went back meanwhile
            return []
        bound = ClockBound.by(asked_at, now, time_ms / 1000)
        self.clock = bound if self.clock is None else self.clock.refined(bound)
        return [SetClock(self.group.group_id, self.clock)]

    def clock_set(self, now: float) -> list[Any]:
        """This host's own was: the Authorizer is asked at once."""
        if self.needs_clock:
            self.clock, self._renew_at = None, now
        return []

    def _next_renewal(self, now: float) -> float:
        between = self.group.policy.lease_s / RENEWALS
        between = min(between, CLOCK_EACH) if self.needs_clock else between
        return now + between * (1 - RENEWAL_JITTER * int.from_bytes(self.random(2), "big") / 65536)

    def _stale(self, why: str) -> list[Any]:
        if self.state in ("stale", "ejected"):
            return []
        self.state, self._stale_why, self._ask_again_at = "stale", why, None
        return [PauseSending(self.group.group_id), Changed("statement-needed", why)]

    def _ask_again(self, now: float) -> list[Any]:
        """The CSM may not have heard it: what takes the network away from a host may take the bus, too."""
        if self.state != "stale" or self.as_agent or now < (self._ask_again_at or now):
            return []
        first, self._ask_again_at = self._ask_again_at is None, now + ASK_AGAIN_AFTER
        return [] if first else [Changed("statement-needed", self._stale_why)]

    def _apply(self, update: GroupUpdate, now: float) -> list[Any]:
        if self._is_off(update):
            return self._removed(update)
        assert self._member is not None
        if update.gkm_rekey and update.epoch <= self.epoch:
            raise Rejected("epoch", "an older epoch")
        try:
            key = self._member.process(update.gkm_rekey) if update.gkm_rekey else self._key
        except Excluded:
            return self._stale("this rekey leads to no key for us")
        effects: list[Any] = self._heard(now)
        self.number, self._confirmed_epoch = update.number, self.epoch  # whose key has opened what the Authorizer said
        gone = [self.roster[sender_id] for sender_id in update.removed if sender_id in self.roster]
        if update.ejection:
            self.departed.update(update.departed_users, (entry.host for entry in gone))
        sender_id_before = self.sender_id
        if self._promised is not None and not self._take_promised(update, now):
            return effects + self._stale("the Authorizer knows this host by another registration")
        if not self._senders.follow(update):
            return effects + self._stale("the member that welcomed this host told another roster than the Authorizer")
        self.users -= set(update.departed_users) & self._local_departed(update)
        relay_before = self.own_relay
        effects.append(self._set_roster())
        if self.sender_id not in (None, sender_id_before):  # just told of
            effects += self._set_source()
        if self.own_relay not in (None, relay_before):  # just appointed
            effects.append(SwitchSending(self.group.group_id, self._sending_epoch, self.own_relay, relaying=True))
        if update.gkm_rekey:
            effects += self._rekeyed(update, key, now)
        if self.passes_on and self._key is not None:
            effects.append(Followed(update, self._key))
        what = "ejection" if update.ejection else "rekeyed" if update.gkm_rekey else "roster"
        effects.append(Changed(what, ", ".join(update.departed_users), update.traceparent or None))
        return effects + self.woken(now)

    def _take_promised(self, update: GroupUpdate, now: float) -> bool:
        """The Authorizer tells of this host: now it may send. False where it tells of another one than this."""
        ours = [entry.sender_id for entry in update.added if entry.host == self.host]
        if not ours:
            return True
        if ours != [self._promised]:
            return False
        self.sender_id, self._promised = self._promised, None
        self._renew_at = now  # which brings its own right to distribute, where it is to have one
        if not update.gkm_rekey:
            self._switches.append((now, self.epoch, update.traceparent or None))
        return True

    def _local_departed(self, update: GroupUpdate) -> set[str]:
        """Users that departed and whose host is ours."""
        ours = next((entry for entry in update.changed if entry.host == self.host), None)
        return set() if ours is None else set(update.departed_users) - set(ours.users)

    def _rekeyed(self, update: GroupUpdate, key: GroupKey | None, now: float) -> list[Any]:
        old = self.epoch
        self._key = key
        effects: list[Any] = self._enter(update.epoch)
        self._confirmed_epoch = update.epoch
        self._drops.append((now + update.deactivation_ms / 1000, old))
        if self.sender_id is not None or self.own_relay is not None:
            self._switches.append((now + update.activation_ms / 1000, update.epoch, update.traceparent or None))
        return effects

    def _is_off(self, update: GroupUpdate) -> bool:
        """The host is no member any more; one that the Authorizer hasn't told of yet goes by its users."""
        if self.sender_id is not None:
            return self.sender_id in update.removed
        return bool(self.users) and self.users <= set(update.departed_users)

    def _removed(self, update: GroupUpdate) -> list[Any]:
        """By an ejection, or since its lease ended, or it is registering anew: then it comes back. One update may tell
        of both."""
        self._member = self._key = None
        self._switches, self._repair_at = [], None
        if not update.ejection or self.users.isdisjoint(update.departed_users):
            return self._stale("the membership ended")
        self.state = "ejected"
        return [PauseSending(self.group.group_id), Changed("ejected", "thrown out by the Coordinator")]

    # ---- time

    def woken(self, now: float) -> list[Any]:
        """Switches, drops, repairs and silences that are due."""
        effects = self._ask_again(now)
        effects += self._switch(now)
        due = [drop for drop in self._drops if now >= drop[0]]
        self._drops = [drop for drop in self._drops if now < drop[0]]
        effects += [DropEpoch(self.group.group_id, epoch) for _, epoch in due]
        if self._repair_at is not None and now >= self._repair_at:
            self._repair_at, self._repaired_at = None, now
            effects.append(RepairWanted(self.number))
        if self._renew_at is not None and now >= self._renew_at and self.state in ("member", "silenced"):
            self._renew_at = self._next_renewal(now) if self._promised is None else now + ADOPTED_AFTER
            effects.append(RenewalWanted())
        if self.state == "member" and now >= self._silent_at():
            self.state = "silenced"
            remark = "no beacon of the Authorizer: an update may have been kept from us, so nothing more is sent"
            effects += [PauseSending(self.group.group_id), Changed("silenced", remark)]
        return effects

    def _switch(self, now: float) -> list[Any]:
        """To the newest epoch whose time has come; an ejection's overtakes those that waited."""
        due = [switch for switch in self._switches if now >= switch[0]]
        if not due:
            return []
        _, epoch, traceparent = max(due, key=lambda switch: switch[1])
        self._switches = [switch for switch in self._switches if switch[1] > epoch]
        return [*self._send_under(epoch, now), Changed("switched", "", traceparent, now)]

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        times = [drop[0] for drop in self._drops]
        times += [switch[0] for switch in self._switches]
        times += [self._repair_at] if self._repair_at is not None else []
        times += [self._silent_at()] if self.state == "member" else []
        times += [self._ask_again_at or 0.0] if self.state == "stale" and not self.as_agent else []
        times += [self._renew_at] if self._renew_at is not None and self.state in ("member", "silenced") else []
        return min(times, default=None)

    def _silent_at(self) -> float:
        return self._heard_at + self.group.policy.beacon_silence_ms / 1000


def home_of(description: SignedStatement) -> str:
    """The Authorizer that a Coordinator's signed description names; `Rejected("association")` where it is none."""
    try:
        return ConferenceDescription.FromString(description.statement).authorizer
    except DecodeError:
        raise Rejected("association", "without the Coordinator's description") from None
