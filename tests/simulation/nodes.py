"""Services and hosts of a simulated domain: the real cores and endpoints, with memory in place of sockets."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from mcsa import subjects
from mcsa.durable_log import Conflict
from mcsa.endpoint import (
    Answered,
    Endpoint,
    Failed,
    OutgoingAnswer,
    OutgoingPublication,
    OutgoingRequest,
    Published,
    Request,
)
from mcsa.errors import Refused
from mcsa.esp.derive import derive_traffic_key
from mcsa.esp.outbound import OutboundAssociation
from mcsa.esp.suite import suite_named
from mcsa.identity import SpiffeId
from mcsa.keys import Random
from mcsa.networks import Networks
from mcsa.registration import sign_user_statement
from mcsa.shell.storage_key import StorageKeyAtRest
from mcsa.subjects import GROUP_CHANGED
from mcsa.updates import PORT as UPDATE_PORT
from mcsa.v1 import msm_pb2
from mcsa.v1.types_pb2 import GroupDescription
from services.authorizer import events as authorizer_events
from services.authorizer.core import AuthorizerCore
from services.authorizer.core import Settings as AuthorizerSettings
from services.authorizer.home import home_endpoint, told_by
from services.authorizer.logs import Logs
from services.msm import events as msm_events
from services.msm.core import MsmCore
from services.msm.core_groups import Settings as MsmSettings
from services.msm.gpad import Accepted
from services.msm.path import GroupPath, Outgoing, Received
from services.msm.relaying import Relayed, RelayingAgent
from tests.simulation.network import Network
from tests.simulation.stream import MemoryStream, WaitingStream
from tests.world import World, seeded

STORED_AFTER = 0.001  # seconds that the store takes


class _Pause:
    """Awaited, it lets time pass on the virtual clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __await__(self) -> Generator[float, None, None]:
        yield self._seconds


async def pause(seconds: float) -> None:
    """Lets time pass on the virtual clock."""
    await _Pause(seconds)


class Switchboard:
    """Who listens to what on the simulated bus."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[Node] = []

    def request(self, source: Node, outgoing: OutgoingRequest) -> None:
        """To the service that answers this subject, one of its processes; nobody, where it is down."""
        service, caller, verb = subjects.parse_subject(outgoing.subject)
        if service == subjects.DISTRIBUTOR:
            self._request_shared(source, outgoing, bytes.fromhex(verb))
            return
        nodes = [
            node
            for node in self.nodes
            if node.endpoint.service == service and (service != subjects.MSM or node.endpoint.caller == caller)
        ]
        if nodes:
            node = nodes[0] if len(nodes) == 1 else self.network.random.choice(nodes)
            self.network.carry(source.name, outgoing.subject, outgoing.raw, partial(node.asked, outgoing, source))

    def _request_shared(self, source: Node, outgoing: OutgoingRequest, group_id: bytes) -> None:
        """To one of those that share it."""
        sharing = [node for node in self.nodes if group_id in node.distributes]
        if sharing:
            node = self.network.random.choice(sharing)
            self.network.carry(source.name, outgoing.subject, outgoing.raw, partial(node.asked, outgoing, source))
        elif self.network.bus_up:
            unserved = partial(source.unserved, outgoing)
            self.network.carry("broker", "reply", b"", unserved)

    def publish(self, source: Node, subject: str, raw: bytes) -> None:
        """To all that listen."""
        for node in list(self.nodes):
            if any(fnmatchcase(subject, pattern) for pattern in node.listens):
                self.network.carry(source.name, subject, raw, partial(node.told, subject, raw))


class Node:
    """One process: an endpoint, and what its effects do to the simulated world."""

    def __init__(self, name: str, endpoint: Endpoint, switchboard: Switchboard, listens: tuple[str, ...] = ()) -> None:
        self.name = name
        self.endpoint = endpoint
        self.switchboard = switchboard
        self.network = switchboard.network
        self.listens = listens
        self.distributes: set[bytes] = set()
        self.alive = True
        self.clock_error = 0.0  # seconds by which this host's clock is ahead of the right time
        self._wake_at: float | None = None
        switchboard.nodes.append(self)

    @property
    def now(self) -> float:
        """By the clock of this host."""
        return self.network.now + self.clock_error

    def kill(self) -> None:
        """As by SIGKILL: nothing more is said, nothing kept."""
        self.alive = False
        self.switchboard.nodes.remove(self)

    def hang(self) -> None:
        """Does nothing until `wake`; what is sent to it meanwhile is lost."""
        self.kill()

    def wake(self) -> None:
        """Goes on as if nothing had been."""
        self.alive = True
        self.switchboard.nodes.append(self)
        self._wake_at = None
        self._schedule()

    def asked(self, outgoing: OutgoingRequest, source: Node) -> None:
        def reply(raw: bytes) -> None:
            self.network.carry(self.name, "reply", raw, lambda: source.answered(raw))

        if self.alive:
            self.perform(self.endpoint.request_arrived(outgoing.subject, outgoing.raw, reply, self.now))

    def answered(self, raw: bytes) -> None:
        if self.alive:
            self.perform(self.endpoint.answer_arrived(raw, self.now))

    def unserved(self, outgoing: OutgoingRequest) -> None:
        if self.alive:
            self.perform(self.endpoint.nobody_serves(outgoing.request_id, self.now))

    def told(self, subject: str, raw: bytes) -> None:
        if self.alive:
            self.perform(self.endpoint.publication_arrived(subject, raw, self.now))

    def event(self, event: Any) -> None:
        if self.alive:
            self.perform(self.endpoint.handle(event, self.now))

    def perform(self, outputs: list[Any]) -> None:
        for output in outputs:
            if not self.alive:  # killed between two of them
                return
            match output:
                case OutgoingRequest():
                    self.switchboard.request(self, output)
                case OutgoingAnswer():
                    output.reply(output.raw)  # type: ignore[operator]
                case OutgoingPublication():
                    self.switchboard.publish(self, output.subject, output.raw)
                case _:
                    self.carry_out(output)
        self._schedule()

    def _schedule(self) -> None:
        wake_at = self.endpoint.wake_at()
        wake_at = None if wake_at is None else wake_at - self.clock_error
        if wake_at is not None and (
            self._wake_at is None or wake_at < self._wake_at or self._wake_at <= self.network.now
        ):
            self._wake_at = max(wake_at, self.network.now)
            self.network.at(self._wake_at, self._woken)

    def _woken(self) -> None:
        if self.alive and self._wake_at is not None and self.network.now >= self._wake_at:
            self._wake_at = None
            self.perform(self.endpoint.tick(self.now))

    def carry_out(self, effect: Any) -> None:
        raise NotImplementedError(effect)


class AuthorizerNode(Node):
    """The Authorizer, with its sender on the multicast."""

    ADDRESS = "198.51.100.1"  # in the first domain

    def __init__(
        self,
        world: World,
        switchboard: Switchboard,
        seed: int,
        stream: MemoryStream,
        state: Path,
        address: str = ADDRESS,
        homes: Mapping[str, Switchboard] | None = None,
        subordinates: tuple[str, ...] = (),
    ) -> None:
        random = seeded(seed)
        settings = AuthorizerSettings(
            networks=Networks.only(address), homes=tuple(homes or ()), subordinates=subordinates
        )
        core = AuthorizerCore(world.authorizer, world.trust(), random, settings)
        peers = {SpiffeId.parse(name).domain: ("authorizer",) for name in subordinates}
        super().__init__("authorizer", self.make_endpoint(world, core, random, peers), switchboard)
        self.homes = {home: HomeNode(self, home, bus, world, random) for home, bus in (homes or {}).items()}
        self.core = core
        self.address = address
        self.logs = Logs(self.store(stream), self.at_rest(state / "storage.key"), random, pause)
        self._senders: dict[tuple[bytes, int], OutboundAssociation] = {}
        self._addresses: dict[bytes, str] = {}
        self.decided: list[authorizer_events.Decided] = []
        self.alarms: list[authorizer_events.Alarm] = []
        self.run(self._take_over())

    def make_endpoint(
        self, world: World, core: AuthorizerCore, random: Random, peers: Mapping[str, Sequence[str]]
    ) -> Endpoint:
        """The core's place on the bus."""
        own = world.authorizer
        return Endpoint(subjects.AUTHORIZER, own.id.token, own, world.trust(), core, random, peer_callers=peers)

    def kill(self) -> None:
        super().kill()
        for home in self.homes.values():
            home.kill()

    def wake(self) -> None:
        super().wake()
        for home in self.homes.values():
            home.wake()

    def store(self, stream: MemoryStream) -> WaitingStream:
        """The way to what keeps the logs."""
        return WaitingStream(stream)

    def at_rest(self, path: Path) -> StorageKeyAtRest:
        """The way to the storage key."""
        return StorageKeyAtRest(path)

    async def _take_over(self) -> None:
        now = self.network.now
        self.perform(self.endpoint.carry_out(self.core.restore(await self.logs.load(), now), now))

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """What waits, until it does; then on from there, as long as this process lives."""
        if not self.alive:
            coroutine.close()
            return
        try:
            seconds = coroutine.send(None)
        except StopIteration:
            return
        self.network.at(self.network.now + seconds, lambda: self.run(coroutine))

    async def _append(self, effect: authorizer_events.Append) -> None:
        await pause(STORED_AFTER)
        try:
            await self.logs.append(effect.log, effect.plaintext, whole=effect.whole, marked=effect.marked)
        except Conflict as conflict:
            self.event(authorizer_events.Fenced(effect.log, conflict.rule == "appended"))
        else:
            self.event(authorizer_events.Appended(effect.log))

    async def _take_snapshot(self, effect: authorizer_events.TakeSnapshot) -> None:
        await pause(STORED_AFTER)
        try:
            await self.logs.take_snapshot(effect.log, effect.plaintext)
        except Conflict as conflict:
            self.event(authorizer_events.Fenced(effect.log, conflict.rule == "appended"))

    async def _load(self, effect: authorizer_events.Load) -> None:
        await pause(STORED_AFTER)
        self.event(await self.logs.read(effect.log))

    def carry_out(self, effect: Any) -> None:
        match effect:
            case authorizer_events.InstallSender():
                group = effect.group
                suite = suite_named(group.policy.suite)
                key = derive_traffic_key(
                    effect.key, effect.domain, group.group_id, effect.epoch, suite, effect.sender_id
                )
                self._senders[group.group_id, effect.epoch] = OutboundAssociation(key)
                self._addresses[group.group_id] = group.address
            case authorizer_events.DropSender():
                self._senders.pop((effect.group_id, effect.epoch), None)
            case authorizer_events.SendToGroup():
                sender = self._senders.get((effect.group_id, effect.epoch))
                if sender is None:
                    return
                packet = sender.seal(effect.payload, UPDATE_PORT, UPDATE_PORT)
                self.network.send(self.address, self._addresses[effect.group_id], packet)
            case authorizer_events.Tell():
                subject = subjects.group_subject(self.endpoint.caller, effect.group_id)
                self.switchboard.publish(self, subject, effect.payload)
            case authorizer_events.Append():
                self.run(self._append(effect))
            case authorizer_events.TakeSnapshot():
                self.run(self._take_snapshot(effect))
            case authorizer_events.EndLog():
                self.run(self.logs.end(effect.log))
            case authorizer_events.Load():
                self.run(self._load(effect))
            case authorizer_events.AskHome():
                home = self.homes[effect.home]
                home.perform(home.endpoint.carry_out([effect.request], self.network.now))
            case authorizer_events.Alarm():
                self.alarms.append(effect)
            case authorizer_events.Decided():
                self.decided.append(effect)
            case _:
                raise TypeError(effect)


class HomeNode(Node):
    """An Authorizer's place on the bus of a peer domain, whose Authorizer is named `home`."""

    def __init__(
        self, authorizer: AuthorizerNode, home: str, switchboard: Switchboard, world: World, random: Random
    ) -> None:
        self._authorizer = authorizer
        self._home = home
        super().__init__(
            "subordinate", home_endpoint(home, world.authorizer, world.trust(), random), switchboard, (told_by(home),)
        )

    def told(self, subject: str, raw: bytes) -> None:
        group_id = bytes.fromhex(subjects.parse_subject(subject)[2])
        self.carry_out(authorizer_events.HomeTold(self._home, group_id, raw))

    def carry_out(self, effect: Any) -> None:
        self._authorizer.event(effect)


class MsmNode(Node):
    """A host's MSM, with its packet path."""

    def __init__(
        self,
        world: World,
        switchboard: Switchboard,
        name: str,
        address: str,
        seed: int,
        accepts: Sequence[Accepted] = (),
    ) -> None:
        random = seeded(seed)
        credentials = world.host(name)
        own = Accepted(f"spiffe://{world.domain}/authorizer/*", "239.255.0.0/16")
        settings = MsmSettings(Networks.only(address), str(world.directory.id), [*accepts, own])
        core = MsmCore(credentials, world.trust(), random, settings, self._path_counters)
        endpoint = Endpoint(
            subjects.MSM, credentials.id.token, credentials, world.trust(), core, random, distributes=True
        )
        super().__init__(f"msm-{name}", endpoint, switchboard, (f"{subjects.PREFIX}.{subjects.GROUP}.*",))
        self.core = core
        self.address = address
        self.paths: dict[bytes, GroupPath] = {}
        self.received: dict[bytes, list[Received]] = {}
        self.listener: Callable[[bytes, Received], None] | None = None
        self.agents: dict[bytes, RelayingAgent] = {}  # by the leaf's id
        self._path_wakes: dict[bytes, float] = {}

    def _path_counters(self, group_id: bytes) -> dict[str, int]:
        return dict(self.paths[group_id].counters) if group_id in self.paths else {}

    def told(self, subject: str, raw: bytes) -> None:
        self.event(msm_events.GroupMessage(bytes.fromhex(subjects.parse_subject(subject)[2]), raw))

    def send(self, group_id: bytes, payload: bytes, port: int = 5004) -> bool:
        """Plaintext of an application on this host; False where nothing may be sent now."""
        membership = self.core.memberships.get(group_id)
        path = self.paths[group_id if membership is None else membership.group.group_id]
        if path.authenticates_sources:
            return self._say(path, payload, port)
        sealed = path.seal_and_hear(payload, port, port)
        for event in path.sequence_low():
            self.event(event)
        if sealed is None:
            return False
        self.network.send(self.address, path.group.address, sealed[0])
        self._relay(path.group.group_id, [sealed[1]])
        return True

    def _say(self, path: GroupPath, payload: bytes, port: int) -> bool:
        unsent = sum(count for cause, count in path.counters.items() if cause.startswith("unsent"))
        self._send_out(path, path.say([payload], port, port, self.now))
        return unsent == sum(count for cause, count in path.counters.items() if cause.startswith("unsent"))

    def _send_out(self, path: GroupPath, outgoing: Iterable[Outgoing]) -> None:
        for each in outgoing:
            packets, size = bytes(each.packets.view), each.packets.segment_size
            for start in range(0, len(packets), size):
                self.network.send(self.address, path.group.address, packets[start : start + size])
            self._relay(path.group.group_id, each.heard)
        wake_at = path.wake_at()
        if wake_at is not None and self._path_wakes.get(path.group.group_id) != wake_at:
            self._path_wakes[path.group.group_id] = wake_at
            self.network.at(wake_at - self.clock_error, partial(self._path_woken, path, wake_at))

    def _path_woken(self, path: GroupPath, wake_at: float) -> None:
        if self.alive and path.wake_at() == wake_at and self.paths.get(path.group.group_id) is path:
            self._path_wakes.pop(path.group.group_id, None)
            self._send_out(path, path.woken(max(self.now, wake_at)))

    def _relay(self, group_id: bytes, found: list[Received]) -> None:
        """As a relaying agent, where this host is one."""
        for leaf_id, agent in self.agents.items():
            if group_id == leaf_id:
                self._carry(agent.backbone, agent.from_leaf(found))
            elif group_id == agent.backbone.group.group_id:
                self._carry(agent.leaf, agent.from_backbone(found))

    def _carry(self, into: GroupPath, relayed: list[Relayed]) -> None:
        for alike in relayed:
            for batch in into.relay_batches(*alike):
                packets, size = bytes(batch.view), batch.segment_size
                for start in range(0, len(packets), size):
                    self.network.send(self.address, into.group.address, packets[start : start + size])

    def carry_out(self, effect: Any) -> None:
        match effect:
            case msm_events.OpenGroup():
                self._open(effect.domain, effect.group)
            case msm_events.OpenSending():
                self._open(effect.domain, effect.group, send_only=True)
            case msm_events.StartRelaying():
                agent = RelayingAgent(self.paths[effect.backbone_id], self.paths[effect.leaf_id])
                self.agents[effect.leaf_id] = agent
            case msm_events.StopRelaying():
                del self.agents[effect.leaf_id]
            case msm_events.CloseGroup():
                path = self.paths.pop(effect.group_id, None)
                if path is not None:
                    self.network.leave(path.group.address, self.address)
            case msm_events.Distribute():
                self.distributes.add(effect.group_id)
            case msm_events.StopDistributing():
                self.distributes.remove(effect.group_id)
            case _:
                path = self.paths.get(effect.group_id)
                if path is not None:
                    self._pass_up(effect.group_id, path.carry_out(effect, self.now))

    def _open(self, domain: str, group: GroupDescription, *, send_only: bool = False) -> None:
        path = GroupPath(domain, group)
        self.paths[group.group_id] = path
        self.received.setdefault(group.group_id, [])

        def arrived(raw: bytes, source: str) -> None:
            if self.alive:
                self._pass_up(group.group_id, path.open(raw, source, self.now))

        if not send_only:
            self.network.join(group.address, self.address, arrived)
        opened = msm_events.GroupOpened(group.group_id, f"/{self.name}/{group.name}")
        self.network.at(self.network.now, lambda: self.event(opened))

    def _pass_up(self, group_id: bytes, found: list[Any]) -> None:
        received = [item for item in found if isinstance(item, Received)]
        self._relay(group_id, received)
        received = [item for item in received if item.is_heard]
        agent = self.agents.get(group_id)
        for item in received if agent is None else [item for item in received if item.relay is None]:
            self._hear(self._asked_id(group_id), item)
        for item in found:
            if not isinstance(item, Received):
                self.event(item)

    def _asked_id(self, group_id: bytes) -> bytes:
        """Of the group whose subgroup this is: as applications know it."""
        leaf_ids = [leaf for leaf, agent in self.agents.items() if agent.backbone.group.group_id == group_id]
        near = leaf_ids[0] if leaf_ids else group_id
        memberships = self.core.memberships.items()
        return next((asked for asked, each in memberships if each.group.group_id == near), group_id)

    def _hear(self, group_id: bytes, item: Received) -> None:
        self.received.setdefault(group_id, []).append(item)
        if self.listener is not None:
            self.listener(group_id, item)


@dataclass(frozen=True)
class Outcome:
    """What became of a request."""

    message: Any = None
    refused: Refused | None = None


@dataclass
class AskingCore:
    """A stand-in for a CSM in tests of what is below it: asks what the test asks, keeps what it is told."""

    outcomes: dict[object, Outcome] = field(default_factory=dict)
    told: list[msm_pb2.GroupChanged] = field(default_factory=list)

    def handle(self, event: Any, now: float) -> list[Any]:
        match event:
            case Request():
                return [event]
            case Answered():
                self.outcomes[event.token] = Outcome(event.message)
            case Failed():
                self.outcomes[event.token] = Outcome(refused=event.refusal)
            case Published():
                self.told.append(event.message)
        return []

    def wake_at(self) -> float | None:
        return None

    def reauthorise(self, request: Any, now: float) -> None:
        return None


class AskingNode(Node):
    """Asks an MSM as its CSM does."""

    def __init__(self, world: World, switchboard: Switchboard, name: str, seed: int) -> None:
        self.core = AskingCore()
        credentials = world.host(name)
        endpoint = Endpoint(
            subjects.CSM,
            credentials.id.token,
            credentials,
            world.trust(),
            self.core,
            seeded(seed),
            publications={"mcsa.v1.GroupChanged": msm_pb2.GroupChanged},
            publishers=("host",),
        )
        super().__init__(
            f"csm-{name}", endpoint, switchboard, (subjects.subject(subjects.CSM, credentials.id.token, GROUP_CHANGED),)
        )
        self.world = world
        self._tokens = 0

    def ask(self, verb: str, message: Message, within: float = 12.0) -> Outcome:
        """Asks, and runs the world until there is an outcome."""
        self._tokens += 1
        token = self._tokens
        host = self.endpoint.credentials
        self.event(Request(subjects.MSM, verb, message, str(host.id), token, within=within))
        self.network.run_until(lambda: token in self.core.outcomes, within + 1)
        return self.core.outcomes[token]

    def join(self, group: GroupDescription, conference_id: bytes, user: str, home: str = "") -> Outcome:
        """The two steps of joining a group for a user; `home` is the conference's Authorizer, if not the own one."""
        return self._enter("join-group", msm_pb2.JoinGroupRequest, group, conference_id, user, home)

    def send_only(self, group: GroupDescription, conference_id: bytes, user: str, home: str = "") -> Outcome:
        """Likewise of sending to it without joining."""
        return self._enter("open-sending", msm_pb2.OpenSendingRequest, group, conference_id, user, home)

    def _enter(
        self,
        verb: str,
        request: type[msm_pb2.JoinGroupRequest | msm_pb2.OpenSendingRequest],
        group: GroupDescription,
        conference_id: bytes,
        user: str,
        home: str,
    ) -> Outcome:
        authorizer = home or str(self.world.authorizer.id)
        asked = msm_pb2.PrepareJoinRequest(
            group_id=group.group_id, authorizer=authorizer, send_only=request is msm_pb2.OpenSendingRequest
        )
        prepared = self.ask("prepare-join", asked)
        if prepared.refused:
            return prepared
        credentials = self.world.user(user)
        return self.ask(
            verb,
            request(
                group=group,
                authorizer=authorizer,
                conference_id=conference_id,
                user_statement=sign_user_statement(credentials, prepared.message.statement),
                user=str(credentials.id),
            ),
        )
