"""This host as the relaying agent of the subgroup that it is in (Iolus): its membership of the backbone. Sans-I/O.

The roster's signed entry is the appointment: while there is one for this host, it registers with the backbone, for
nobody but the subgroup, and carries packets between the two (`relaying.py`). It does all that by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcsa import subjects
from mcsa.endpoint import Count, Request
from mcsa.envelope import payload_hash
from mcsa.errors import Rejected
from mcsa.gkm import Joining
from mcsa.membership import Membership
from mcsa.registration import open_association
from mcsa.sealing import SealingKey
from mcsa.v1 import authorizer_pb2 as wire
from services.msm.events import CloseGroup, OpenGroup, StartRelaying, StopRelaying

AGAIN_AFTER = 1.0  # seconds after which an agent that wasn't admitted, or has missed too much, registers again


@dataclass(frozen=True, slots=True)
class RegisteringAgent:
    """Token of the registration."""

    leaf_id: bytes


@dataclass(slots=True)
class _Registration:
    key: SealingKey
    joining: Joining
    request_hash: bytes
    asked_at: float


class Agency:
    """One appointment. `own_address`: this host's in the network of a group."""

    def __init__(self, leaf: Membership, own_address: Callable[[str], str]) -> None:
        assert leaf.backbone is not None
        self._leaf = leaf
        self.leaf_id = leaf.group.group_id
        self._own_address = own_address
        self.backbone = Membership(
            leaf.backbone,
            leaf.authorizer,
            leaf.home,
            leaf.conference_id,
            leaf.host,
            leaf.trust,
            leaf.random,
            as_agent=True,
        )
        self._registration: _Registration | None = None
        self._again_at: float | None = None
        self._relaying = False

    def begin(self) -> list[Any]:
        """Joins the backbone's multicast group; goes on with `opened`."""
        return [OpenGroup(self.backbone.domain, self.backbone.group)]

    def opened(self, now: float) -> list[Any]:
        """Registers."""
        membership = self.backbone
        if membership.state == "opening":
            membership.state = "registering"
        joining = membership.begin()
        key = SealingKey.generate(membership.group.policy.hpke)
        request = wire.RegisterRequest(
            group_id=membership.group.group_id,
            hpke_public_key=key.public,
            hpke_suite=key.suite,
            sender=True,
            address=self._own_address(membership.group.address),
            gkm_contribution=joining.contribution,
            last_beacon=membership.last_beacon,
            relay=True,
        )
        self._again_at = None
        self._registration = _Registration(key, joining, payload_hash(request), now)
        token = RegisteringAgent(self.leaf_id)
        return [Request(subjects.AUTHORIZER, "register", request, membership.authorizer, token)]

    def registered(self, sealed: bytes, now: float) -> list[Any]:
        """The Authorizer's answer."""
        registration, self._registration = self._registration, None
        if registration is None:
            return []
        try:
            gsa = open_association(registration.key, registration.request_hash, sealed)
            effects = self.backbone.install(registration.joining, gsa, now)
            effects += self.backbone.clock_heard(registration.asked_at, gsa.time_ms, now)
        except Rejected as rejected:
            return [Count(f"rejected.agent.{rejected.cause}"), *self.again(now)]
        return effects if self._relaying else [*effects, *self._start()]

    def _start(self) -> list[Any]:
        self._relaying = True
        return [StartRelaying(self.leaf_id, self.backbone.group.group_id)]

    def again(self, now: float) -> list[Any]:
        """What went wrong may be mended by time."""
        self._again_at = now + AGAIN_AFTER
        return []

    def woken(self, now: float) -> list[Any]:
        """What is due."""
        return self.opened(now) if self._again_at is not None and now >= self._again_at else []

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        return self._again_at

    def end(self) -> list[Any]:
        """No longer appointed, or no longer in the subgroup."""
        stop = [StopRelaying(self.leaf_id)] if self._relaying else []
        return [*stop, CloseGroup(self.backbone.group.group_id)]

    @property
    def is_over(self) -> bool:
        """The appointment is."""
        return not self._leaf.is_agent or self._leaf.group.group_id != self.leaf_id
