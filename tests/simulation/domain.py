"""A whole domain in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mcsa.conference_id import CONFERENCE_LABEL
from mcsa.v1 import msm_pb2
from mcsa.v1.types_pb2 import (
    POLICY_CLASS_CLOSED,
    AccessControl,
    ConferenceDescription,
    GroupDescription,
    GroupPolicy,
    SignedStatement,
)
from services.msm.gpad import Accepted
from tests.simulation.network import START, Network, Weather
from tests.simulation.nodes import AskingNode, AuthorizerNode, MsmNode, Switchboard
from tests.simulation.stream import MemoryStream
from tests.world import World, seeded


class Domain:
    """Authorizer and hosts; every host has an MSM and something that asks it."""

    def __init__(
        self,
        seed: int = 1,
        weather: Weather | None = None,
        hosts: tuple[str, ...] = (),
        world: World | None = None,
        network: Network | None = None,
        subnet: str = "198.51.100",
        accepts: Sequence[Accepted] = (),
        homes: Mapping[str, Switchboard] | None = None,
        subordinates: tuple[str, ...] = (),
    ) -> None:
        """`network`: shared with another domain, which has another subnet and a bus of its own. `accepts`: lines of all
        hosts' GPAD before that of the own Authorizer."""
        self.seed = seed
        self.subnet = subnet
        self._accepts = accepts
        self._homes, self._subordinates = homes, subordinates
        self._started = 0
        self.world = world or World(now=START)
        self.network = network or Network(seed, weather)
        self.switchboard = Switchboard(self.network)
        self.stream = MemoryStream()
        self._folder = TemporaryDirectory()
        self.state = Path(self._folder.name)
        self.authorizer = self.authorizer_node(seed, self.state)
        self.msm: dict[str, MsmNode] = {}
        self.csm: dict[str, AskingNode] = {}
        for name in hosts:
            self.add_host(name)

    def add_host(self, name: str) -> None:
        """A host, and its address."""
        number = len(self.msm) + 2
        self.msm[name] = self.msm_node(name, f"{self.subnet}.{number}", self.seed * 1000 + number)
        self.csm[name] = AskingNode(self.world, self.switchboard, name, self.seed * 2000 + number)

    def age_key(self, group_id: bytes) -> None:
        """A group's key is old enough to be replaced, all at once."""
        kept = self.authorizer.core._kept
        group = kept.groups[group_id]
        group.rekey_at = self.network.now
        kept.schedule(group)
        self.authorizer.perform([])

    def restart_authorizer(self) -> None:
        """A new process with what the old one wrote down."""
        self.authorizer.kill()
        self.start_authorizer(self.state)

    def start_authorizer(self, state: Path) -> None:
        """A process with a disk of its own; there may be another one."""
        self._started += 1
        self.authorizer = self.authorizer_node(self.seed + 77 * self._started, state)

    def authorizer_node(self, seed: int, state: Path) -> AuthorizerNode:
        """A process of the Authorizer that begins now."""
        own = f"{self.subnet}.1"
        return AuthorizerNode(
            self.world, self.switchboard, seed, self.stream, state, own, self._homes, self._subordinates
        )

    def restart_msm(self, name: str) -> None:
        """A new process with nothing."""
        old = self.msm[name]
        old.kill()
        for path in old.paths.values():
            self.network.leave(path.group.address, old.address)
        self._started += 1
        seed = self.seed * 3000 + len(self.msm) + 100_000 * self._started
        self.msm[name] = self.msm_node(name, old.address, seed)

    def msm_node(self, name: str, address: str, seed: int) -> MsmNode:
        """A process of a host's MSM that begins now."""
        return MsmNode(self.world, self.switchboard, name, address, seed, self._accepts)

    def describe(
        self,
        coordinator: str = "alice",
        groups: int = 1,
        policy: GroupPolicy | None = None,
        policy_class: int = POLICY_CLASS_CLOSED,
    ) -> SignedStatement:
        """A signed description of a conference."""
        description = ConferenceDescription(
            title="a conference",
            coordinator=str(self.world.user(coordinator).id),
            policy_class=policy_class,  # type: ignore[arg-type]
            ckgds=["bd"],
            groups=[
                GroupDescription(
                    name=f"group{number}", media="audio", format="0", port=5004 + 2 * number, policy=policy
                )
                for number in range(groups)
            ],
            start_s=int(START),
            nonce=seeded(self.seed)(16),
            authorizer=str(self.world.authorizer.id),
        )
        return self.world.user(coordinator).sign_statement(CONFERENCE_LABEL, description.SerializeToString())

    def create(
        self,
        host: str = "alpha",
        acceptable: tuple[str, ...] = ("alice", "bob", "carol"),
        policy: GroupPolicy | None = None,
        groups: int = 1,
        policy_class: int = POLICY_CLASS_CLOSED,
        senders: tuple[str, ...] = (),
    ) -> msm_pb2.CreateSessionResponse:
        """A session created through a host's MSM; `senders`: users that may send to its groups without joining."""
        access = AccessControl(
            acceptable_users=[str(self.world.user(name).id) for name in acceptable],
            acceptable_senders=[str(self.world.user(name).id) for name in senders],
        )
        signed = self.describe(groups=groups, policy=policy, policy_class=policy_class)
        outcome = self.csm[host].ask("create-session", msm_pb2.CreateSessionRequest(description=signed, access=access))
        assert outcome.refused is None, outcome.refused
        response = outcome.message
        assert isinstance(response, msm_pb2.CreateSessionResponse)
        return response
