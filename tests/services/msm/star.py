"""A group of subgroups on a simulated network: leaf A, the backbone, leaf B, and a relaying agent for each leaf.

    ada, amy, rolf (agent)  -- leaf A --  rolf, ben, rita  -- backbone --  rita (agent), bob  -- leaf B

It does what the Authorizer, the core and the driver will do: keys by the plug-in, rosters, datagrams.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mcsa.gkm import Member, scheme_named
from mcsa.policy import complete_policy
from mcsa.v1.types_pb2 import GroupDescription, GroupPolicy
from services.msm.events import DropEpoch, InstallEpoch, SetRoster, SwitchSending
from services.msm.path import GroupPath, Received
from services.msm.relaying import Relayed, RelayingAgent
from tests.simulation.network import Network, Weather
from tests.world import seeded

DOMAIN, PORT = "example.org", 5004
SCHEME = scheme_named("iolus")
AUTHORIZER = 1  # its sender ID, to keep it simple in each subgroup


@dataclass
class Host:
    """A host: a path in each of its subgroups, and what its applications heard."""

    star: Star
    name: str
    address: str
    paths: dict[str, GroupPath] = field(default_factory=dict)
    sender_ids: dict[str, int] = field(default_factory=dict)
    relay_ids: dict[str, int] = field(default_factory=dict)
    agent: RelayingAgent | None = None
    inbox: list[Received] = field(default_factory=list)

    @property
    def home(self) -> str:
        """The subgroup that its applications send into."""
        return next(iter(self.sender_ids))

    @property
    def sender_id(self) -> int:
        return self.sender_ids[self.home]

    def say(self, payload: bytes, port: int = PORT) -> None:
        """Plaintext of an application's; an agent relays it too."""
        path = self.paths[self.home]
        sealed = path.seal_and_hear(payload, port, port)
        if sealed is not None:
            self.send(self.home, sealed[0])
            self.relay(self.home, [sealed[1]])

    def send(self, subgroup: str, packet: bytes) -> None:
        self.star.network.send(self.address, self.star.subgroups[subgroup].address, packet)

    def arrived(self, subgroup: str, raw: bytes, source: str) -> None:
        self.take(subgroup, self.paths[subgroup].open(raw, source, self.star.network.now))

    def take(self, subgroup: str, found: list[object]) -> None:
        received = [item for item in found if isinstance(item, Received)]
        self.relay(subgroup, received)
        for packet in received:
            if self.agent is None or subgroup == "backbone" or packet.relay is None:
                self.inbox.append(packet)

    def relay(self, subgroup: str, received: list[Received]) -> None:
        if self.agent is None:
            return
        if subgroup == "backbone":
            self.carry(self.agent.leaf, self.agent.from_backbone(received))
        else:
            self.carry(self.agent.backbone, self.agent.from_leaf(received))

    def carry(self, into: GroupPath, relayed: list[Relayed]) -> None:
        for alike in relayed:
            for batch in into.relay_batches(*alike):
                packets, size = bytes(batch.view), batch.segment_size
                for start in range(0, len(packets), size):
                    self.send(into.group.name, packets[start : start + size])


class Subgroup:
    """One subgroup: its controller, its members' halves, its epochs."""

    def __init__(self, star: Star, name: str, number: int) -> None:
        self.star, self.name = star, name
        self.address = f"239.255.0.{number + 1}"
        self.description = GroupDescription(
            group_id=bytes([number]) * 16,
            name=name,
            address=self.address,
            policy=complete_policy(GroupPolicy(gkm="iolus")),
        )
        self.epoch = 1_800_000_000_000 + 100 * number
        self.authority = SCHEME.create(star.random)
        self.halves: dict[str, Member] = {}

    def admit(self, host: Host, *, sender: bool = True) -> None:
        """A member, and a sender unless said otherwise."""
        host.paths[self.name] = GroupPath(DOMAIN, self.description)
        self.star.network.join(self.address, host.address, lambda raw, source: host.arrived(self.name, raw, source))
        if sender:
            host.sender_ids[self.name] = self.star.give_sender_id()
        self.change([host.name])

    def remove(self, host: Host) -> None:
        """It was thrown out; it goes on hearing what is sent to the address."""
        host.sender_ids.pop(self.name, None)
        host.relay_ids.pop(self.name, None)
        self.change([], [host.name])

    def change(self, joins: list[str] = [], leaves: list[str] = []) -> None:  # noqa: B006
        """New keys, an epoch of their own, the old one dropped at once."""
        joining = {name: SCHEME.begin(self.star.random) for name in joins}
        contributions = {name: half.contribution for name, half in joining.items()}
        change = self.authority.change(contributions, leaves, replace_key=True)
        for name in leaves:
            del self.halves[name]
        for half in self.halves.values():
            half.process(change.rekey)
        self.halves |= {name: half.finish(change.welcomes[name]) for name, half in joining.items()}
        old, self.epoch = self.epoch, self.epoch + 1
        for name, half in self.halves.items():
            for effect in (DropEpoch(b"", old), InstallEpoch(b"", self.epoch, half.key)):
                self.star.carry_out(name, self.name, effect)
        self.tell_roster()
        for name in self.halves:
            self.switch(self.star.hosts[name])

    def switch(self, host: Host) -> None:
        for sender_ids, relaying in ((host.sender_ids, False), (host.relay_ids, True)):
            if self.name in sender_ids:
                effect = SwitchSending(b"", self.epoch, sender_ids[self.name], relaying)
                self.star.carry_out(host.name, self.name, effect)

    def tell_roster(self) -> None:
        members = [self.star.hosts[name] for name in self.halves]
        relays = {host.relay_ids[self.name] for host in members if self.name in host.relay_ids}
        addresses = {AUTHORIZER: "10.0.0.1"}
        for host in members:
            for sender_ids in (host.sender_ids, host.relay_ids):
                if self.name in sender_ids:
                    addresses[sender_ids[self.name]] = host.address
        for host in members:
            own, own_relay = host.sender_ids.get(self.name), host.relay_ids.get(self.name)
            distant = range(self.star._sender_ids + 1_000)  # whoever will be given one, too
            roster = SetRoster(b"", addresses, own, AUTHORIZER, relays, own_relay, distant)
            self.star.carry_out(host.name, self.name, roster)


class Star:
    """See the module."""

    def __init__(self, seed: int = 1, weather: Weather | None = None) -> None:
        self.network = Network(seed, weather)
        self.random = seeded(seed)
        self._sender_ids = AUTHORIZER
        self.hosts: dict[str, Host] = {}
        self.subgroups = {name: Subgroup(self, name, number) for number, name in enumerate(["backbone", "a", "b"])}
        members = {"a": ["ada", "amy", "rolf"], "backbone": ["ben"], "b": ["rita", "bob"]}
        for subgroup, names in members.items():
            for name in names:
                self.admit(name, subgroup)
        self.appoint("rolf", "a")
        self.appoint("rita", "b")

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def give_sender_id(self) -> int:
        """From one counter for all subgroups."""
        self._sender_ids += 1
        return self._sender_ids

    def admit(self, name: str, subgroup: str) -> Host:
        host = self.hosts[name] = Host(self, name, f"10.0.1.{len(self.hosts) + 1}")
        self.subgroups[subgroup].admit(host)
        return host

    def appoint(self, name: str, leaf: str) -> None:
        """Makes a member of the leaf its relaying agent: a member of the backbone, with a sender ID in either."""
        host = self.hosts[name]
        host.relay_ids = {leaf: self.give_sender_id(), "backbone": self.give_sender_id()}
        if "backbone" in host.paths:  # it was an agent before, and has started again
            self.subgroups["backbone"].remove(host)
            host.relay_ids["backbone"] = self.give_sender_id()
        self.subgroups["backbone"].admit(host, sender=False)
        self.subgroups[leaf].change()
        host.agent = RelayingAgent(host.paths["backbone"], host.paths[leaf])

    def carry_out(self, host: str, subgroup: str, effect: object) -> None:
        self.hosts[host].take(subgroup, self.hosts[host].paths[subgroup].carry_out(effect, self.network.now))

    def sent(self, subgroup: str) -> int:
        """Datagrams that were sent to a subgroup's address."""
        address = self.subgroups[subgroup].address
        return sum(frame.destination == address for frame in self.network.frames)

    def run(self) -> None:
        self.network.run_for(1.0)
