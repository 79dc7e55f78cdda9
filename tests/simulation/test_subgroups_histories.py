"""A group of many subgroups (Iolus) under joins, leaves, ejections, deaths, restarts and loss in any order."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from mcsa.membership import Membership
from mcsa.statements import EVICTION_LABEL
from mcsa.v1.authorizer_pb2 import Eviction
from mcsa.v1.msm_pb2 import EvictMemberRequest, LeaveGroupRequest
from mcsa.v1.types_pb2 import GroupPolicy
from services.authorizer import events as authorizer_events
from services.authorizer.group import Group
from services.authorizer.group_state import AGENT
from services.msm import events as msm_events
from tests.simulation.domain import Domain
from tests.simulation.history import Broken, History
from tests.simulation.network import START, Weather
from tests.simulation.nodes import AuthorizerNode, MsmNode
from tests.world import World

WORLD = World(now=START)
HOSTS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta")
USERS = {host: f"user-{host}" for host in HOSTS}
DEEDS = ["join"] * 8 + ["leave"] * 3 + ["restart"] * 3 + ["die", "eject", "authorizer"]


class Keys(History):
    """And each association that anybody sealed under, once; whom each key was given to, and who was thrown out."""

    def __init__(self) -> None:
        super().__init__()
        self._sealing: set[tuple[bytes, int, int]] = set()
        self.held: dict[str, set[tuple[bytes, int]]] = {}
        self.ejected: set[str] = set()

    def seals(self, group_id: bytes, epoch: int, sender_id: int) -> None:
        """Somebody seals with this association from now on."""
        if (group_id, epoch, sender_id) in self._sealing:
            raise Broken(f"sender ID {sender_id} seals a second time in epoch {epoch}")
        self._sealing.add((group_id, epoch, sender_id))
        for host in self.ejected:
            if (group_id, epoch) in self.held.get(host, set()):
                raise Broken(f"{host}, who was thrown out, has the key of epoch {epoch}")


class WatchedAuthorizer(AuthorizerNode):
    history: Keys

    def carry_out(self, effect: Any) -> None:
        if isinstance(effect, authorizer_events.InstallSender):
            self.history.epoch(effect.group.group_id, effect.epoch, effect.key)
            self.history.seals(effect.group.group_id, effect.epoch, effect.sender_id)
        super().carry_out(effect)


class WatchedMsm(MsmNode):
    history: Keys

    def carry_out(self, effect: Any) -> None:
        self.history.msm(effect)
        match effect:
            case msm_events.InstallEpoch():
                self.history.held.setdefault(self.name, set()).add((effect.group_id, effect.epoch))
            case msm_events.SwitchSending():
                self.history.seals(effect.group_id, effect.epoch, effect.sender_id)
        super().carry_out(effect)


class Subgroups(Domain):
    """A conference of one group, in subgroups of two."""

    def __init__(self, seed: int = 1, hosts: tuple[str, ...] = HOSTS, **policy: Any) -> None:
        self.history = Keys()
        super().__init__(seed, hosts=hosts, world=WORLD)
        users = tuple(USERS.get(host, host) for host in hosts)
        asked = GroupPolicy(**{"gkm": "iolus", "subgroup_size": 2, **policy})
        created = self.create(acceptable=users, policy=asked)
        self.description, self.conference_id = created.groups[0], created.conference_id
        self.group_id = self.description.group_id

    def authorizer_node(self, seed: int, state: Any) -> AuthorizerNode:
        made = WatchedAuthorizer.__new__(WatchedAuthorizer)
        made.history = self.history
        made.__init__(self.world, self.switchboard, seed, self.stream, state, f"{self.subnet}.1")  # type: ignore[misc]
        return made

    def msm_node(self, name: str, address: str, seed: int) -> MsmNode:
        node = WatchedMsm(self.world, self.switchboard, name, address, seed)
        node.history = self.history
        return node

    @property
    def subgroups(self) -> list[Group]:
        star = self.authorizer.core._kept.star(self.group_id)
        assert star is not None
        return list(star)

    def membership(self, host: str) -> Membership | None:
        return self.msm[host].core.memberships.get(self.group_id)

    def is_in(self, host: str) -> bool:
        membership = self.membership(host)
        return self.msm[host].alive and membership is not None and membership.state == "member"

    def join(self, host: str) -> None:
        outcome = self.csm[host].join(self.description, self.conference_id, USERS[host])
        assert outcome.refused is None, (host, outcome.refused)

    def leave(self, host: str) -> None:
        user = str(self.world.user(USERS[host]).id)
        self.csm[host].ask("leave-group", LeaveGroupRequest(group_id=self.group_id, user=user))

    def eject(self, host: str, by: str) -> None:
        eviction = Eviction(
            conference_id=self.conference_id,
            subject=str(self.world.user(USERS[host]).id),
            time_ms=round(self.network.now * 1000),
        )
        signed = self.world.user("alice").sign_statement(EVICTION_LABEL, eviction.SerializeToString())
        outcome = self.csm[by].ask(
            "evict-member", EvictMemberRequest(authorizer=str(self.world.authorizer.id), eviction=signed)
        )
        assert outcome.refused is None, outcome.refused

    def heard(self, host: str) -> Counter[bytes]:
        return Counter(item.payload for item in self.msm[host].received.get(self.group_id, []))


class Past:
    """Deeds, one after the other."""

    def __init__(self, seed: int) -> None:
        self.domain = Subgroups(seed + 40)
        self.domain.network.weather = Weather(loss=0.05, duplication=0.05, jitter=0.02)
        self.chance = Random(seed)
        self.ejected: set[str] = set()

    def go_on(self) -> None:
        host = self.chance.choice([host for host in HOSTS if host not in self.ejected])
        domain, network = self.domain, self.domain.network
        match self.chance.choice(DEEDS):
            case "join" if domain.msm[host].alive:
                domain.csm[host].join(domain.description, domain.conference_id, USERS[host])
            case "leave" if domain.msm[host].alive:
                domain.leave(host)
            case "die" if domain.msm[host].alive:
                domain.msm[host].kill()
            case "restart":
                self._restart(host)
            case "eject" if len(self.ejected) < 2:
                self._eject(host)
            case "authorizer":
                domain.authorizer.kill()
                network.run_for(self.chance.random() * 4)
                domain.start_authorizer(domain.state)
        network.run_for(self.chance.random() * 3)

    def _restart(self, host: str) -> None:
        if not self.domain.msm[host].alive:
            self.domain.msm[host].wake()  # to be killed again
        self.domain.restart_msm(host)

    def _eject(self, host: str) -> None:
        by = next((other for other in HOSTS if other != host and self.domain.msm[other].alive), None)
        if by is not None:
            self.ejected.add(host)
            self.domain.eject(host, by)
            self.domain.history.ejected.add(self.domain.msm[host].name)

    def settle(self) -> list[str]:
        """Everybody that may be in is; nothing is lost any more."""
        domain, network = self.domain, self.domain.network
        network.weather.loss = 0.0
        present = [host for host in HOSTS if host not in self.ejected]
        for host in present:
            if not domain.msm[host].alive:
                self._restart(host)
        network.run_for(70.0)  # leases of those that are gone
        for host in present:
            if not domain.is_in(host):
                domain.join(host)
        network.run_for(10.0)
        return present


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_all_hear_each_other_once_and_who_was_thrown_out_hears_nothing(seed: int):
    past = Past(seed)
    domain = past.domain
    with domain.history.reading():
        for _ in range(25):
            past.go_on()
        present = past.settle()
    check_star(domain, present)
    for host in present:
        assert domain.msm[host].send(domain.group_id, f"{seed} {host}".encode()), host
        domain.network.run_for(0.3)
    for host in HOSTS:
        expected = set(present) - {host} if host in present else set()
        heard = {payload: times for payload, times in domain.heard(host).items() if payload.startswith(b"%d " % seed)}
        assert heard == {f"{seed} {other}".encode(): 1 for other in expected}, host


def check_star(domain: Subgroups, present: list[str]) -> None:
    """Everybody is in one subgroup, has its keys, knows of everybody; each has one agent on the backbone."""
    names = [member.host.rpartition("/")[2] for group in domain.subgroups for member in group.members]
    assert sorted(name for name in names if not name.endswith(AGENT)) == sorted(present)
    agents = [group.agent.rpartition("/")[2] + AGENT for group in domain.subgroups if group.agent]
    assert sorted(name for name in names if name.endswith(AGENT)) == sorted(agents)
    by_id = {group.id: group for group in domain.subgroups}
    users = {str(WORLD.user(USERS[host]).id) for host in present}
    for host in present:
        membership = domain.membership(host)
        assert membership is not None and membership.state == "member", host
        assert membership.epoch == by_id[membership.group.group_id].epoch, host
        assert {user for entry in membership.roster.values() for user in entry.users} == users, host
