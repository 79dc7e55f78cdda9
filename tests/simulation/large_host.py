"""One of very many hosts: a real `Membership` with its half of the group's key management, and little else.

What a host's MSM does around it (envelopes, requests repeated until answered, the packet path) is cut down to what
matters here: a packet is a payload with its epoch in front, dropped where that epoch isn't installed; a registration
that isn't answered is made again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from mcsa.envelope import payload_hash
from mcsa.errors import Refused, Rejected
from mcsa.gkm import Excluded, Joining, Member
from mcsa.keys import GroupKey, Random
from mcsa.membership import Changed, Membership, RenewalWanted, RepairWanted
from mcsa.path_control import DropEpoch, InstallEpoch
from mcsa.registration import open_association
from mcsa.sealing import SealingKey
from mcsa.trust import Trust
from mcsa.updates import open_update, parse_update, update_key
from mcsa.v1 import authorizer_pb2 as wire
from tests.simulation.network import Network

EPOCH_SIZE = 8
ANSWER_WITHIN = 4.0  # seconds
Answered = Callable[[Any], None]


class Desk(Protocol):
    """Whom hosts ask."""

    network: Network

    def ask(self, verb: str, host: str, message: Any, answered: Answered) -> None:
        """`answered` is called with the answer or a `Refused`, or never."""


class LargeHost:
    """See the module. `told` counts what all hosts live through."""

    def __init__(self, desk: Desk, membership: Membership, address: str, told: Counter[str], *, sender: bool) -> None:
        self.desk = desk
        self.network = desk.network
        self.membership = membership
        self.name = membership.host
        self.address = address
        self.sender = sender
        self.deaf_until = 0.0
        self.running = True
        self.refused: Refused | None = None
        self.epochs: set[int] = set()
        self.secrets: list[Member] = []  # every half that it ever had
        self.keys: dict[int, GroupKey] = {}  # and every group key, by epoch
        self._told = told
        self._wake_at: float | None = None
        self._attempt = 0

    @property
    def deaf(self) -> bool:
        return not self.running or self.network.now < self.deaf_until

    # ---- asking

    def register(self) -> None:
        """Asks until there is an answer."""
        if not self.running or self.refused is not None:
            return
        joining, key = self.membership.begin(), SealingKey.generate("x25519")
        request = wire.RegisterRequest(
            group_id=self.membership.group.group_id,
            hpke_public_key=key.public,
            hpke_suite=key.suite,
            sender=self.sender,
            address=self.address,
            gkm_contribution=joining.contribution,
        )
        self._attempt += 1
        attempt = self._attempt
        self._ask("register", request, partial(self._registered, attempt, joining, key, payload_hash(request)))
        self.network.at(self.network.now + ANSWER_WITHIN, partial(self._register_again, attempt))

    def _register_again(self, attempt: int) -> None:
        if attempt == self._attempt and self.membership.state in ("opening", "stale"):
            self._told["registrations repeated"] += 1
            self.register()

    def _registered(self, attempt: int, joining: Joining, key: SealingKey, request_hash: bytes, answer: Any) -> None:
        if attempt != self._attempt:
            return
        if isinstance(answer, Refused):
            self.refused = answer
            self._told[f"refused {answer.rule}"] += 1
            return
        gsa = open_association(key, request_hash, answer.sealed_gsa)
        self._follow(self.membership.install(joining, gsa, self.network.now))
        assert self.membership._member is not None
        self.secrets.append(self.membership._member)
        self._told["installed"] += 1

    def leave(self) -> None:
        """Says so, and goes."""
        self._ask("leave", wire.LeaveRequest(group_id=self.membership.group.group_id), lambda answer: None)
        self.running = False

    def _ask(self, verb: str, message: Any, answered: Answered) -> None:
        def heard(answer: Any) -> None:
            if not self.deaf:
                answered(answer)

        if not self.deaf:
            self._told[verb] += 1
            self.desk.ask(verb, self.name, message, heard)

    # ---- hearing

    def packet(self, raw: bytes, source: str) -> None:
        """One datagram of the group."""
        if not self.deaf:
            if int.from_bytes(raw[:EPOCH_SIZE], "big") in self.epochs:
                self.payload(raw[EPOCH_SIZE:])
            else:
                self._follow(self.membership.hint(self.network.now))

    def payload(self, raw: bytes) -> None:
        """An update or a beacon, from wherever."""
        if self.deaf:
            return
        try:
            self._follow(self.membership.message_arrived(raw, self.network.now))
        except Rejected as rejected:
            self._told[f"rejected {rejected.cause}"] += 1

    def _repaired(self, answer: Any) -> None:
        if isinstance(answer, wire.RepairResponse):
            self._told["updates repaired"] += len(answer.updates)
            self._follow(self.membership.repaired(list(answer.updates), answer.register_again, self.network.now))

    def _renewed(self, answer: Any) -> None:
        if isinstance(answer, wire.RenewResponse) and answer.register_again:
            self._follow(self.membership.lost("the Authorizer doesn't know this host as a member"))

    def _follow(self, effects: list[Any]) -> None:
        group_id = self.membership.group.group_id
        for effect in effects:
            match effect:
                case InstallEpoch():
                    self.epochs.add(effect.epoch)
                    self.keys[effect.epoch] = effect.key
                case DropEpoch():
                    self.epochs.discard(effect.epoch)
                case RepairWanted():
                    request = wire.RepairRequest(group_id=group_id, have_number=effect.have_number)
                    self._ask("repair", request, self._repaired)
                case RenewalWanted():
                    self._ask("renew", wire.RenewRequest(group_id=group_id), self._renewed)
                case Changed(what="statement-needed"):
                    self._told[f"stale: {effect.remark}"] += 1
                    self.network.at(self.network.now + 0.05, self.register)
        self._schedule()

    def _schedule(self) -> None:
        wake_at = self.membership.wake_at()
        if wake_at is not None and (self._wake_at is None or wake_at < self._wake_at):
            self._wake_at = max(wake_at, self.network.now)
            self.network.at(self._wake_at, self._woken)

    def _woken(self) -> None:
        if self._wake_at is not None and self.network.now >= self._wake_at:
            self._wake_at = None
            if self.running:
                self._follow(self.membership.woken(self.network.now))

    # ---- once it is gone

    def attack(self, payloads: list[bytes], rekeys: list[bytes], trust: Trust, now: float) -> set[GroupKey]:
        """All group keys that it comes to with all it ever had: from every update there was, and from the rekeys in
        them as if somebody had told it what they say."""
        known = dict(self.keys)
        for raw in payloads:
            sealed = parse_update(raw)
            key = known.get(sealed.under_epoch)
            if key is None:
                continue
            opens = update_key(key, sealed.group_id, sealed.under_epoch)
            update = open_update(sealed, opens, trust, self.membership.authorizer, now)
            for learned in self._process(update.gkm_rekey):
                known[update.epoch] = learned
        return {*known.values(), *(key for rekey in rekeys for key in self._process(rekey))}

    def _process(self, rekey: bytes) -> list[GroupKey]:
        found = []
        for half in self.secrets if rekey else []:
            try:
                found.append(half.process(rekey))
            except (Excluded, Rejected):
                continue
        return found


def membership_of(host: str, create: wire.CreateResponse, authorizer: str, trust: Trust, random: Random) -> Membership:
    """A host's that has heard the announcement."""
    return Membership(create.groups[0], authorizer, authorizer, create.conference_id, host, trust, random)
