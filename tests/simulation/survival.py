"""A domain whose Authorizer can be killed between any two of its effects, and whose past is looked at."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from mcsa.durable_log import Stored
from mcsa.endpoint import OutgoingAnswer
from mcsa.shell.storage_key import StorageKeyAtRest
from mcsa.statements import EVICTION_LABEL
from mcsa.v1.authorizer_log_pb2 import ConferenceRecord
from mcsa.v1.authorizer_pb2 import Countersignature, Eviction
from mcsa.v1.msm_pb2 import CountersignRecordRequest, EvictMemberRequest, LeaveGroupRequest
from mcsa.v1.types_pb2 import GroupPolicy
from services.authorizer import events
from services.authorizer.conference import conference_log
from services.authorizer.logs import Logs
from tests.simulation.conference import ConferenceDomain
from tests.simulation.domain import Domain
from tests.simulation.history import History
from tests.simulation.nodes import AuthorizerNode, MsmNode, pause
from tests.simulation.stream import MemoryStream, WaitingStream

RESTARTED_AFTER = 0.3  # seconds
STEPS = (OutgoingAnswer, events.Tell, events.SendToGroup, events.InstallSender, events.Append, events.TakeSnapshot)

Step = Callable[["WalkedNode", str], None]


class Killed(Exception):  # noqa: N818
    """The process is gone, in the middle of something that doesn't wait."""


class WalkedNode(AuthorizerNode):
    """An Authorizer that calls `step` before each thing it does to the world. `step` may kill it."""

    def __init__(self, history: History, process: int, step: Step, *args: Any) -> None:
        self.history = history
        self.process = process
        self._step = step
        super().__init__(*args)

    def step(self, name: str) -> None:
        self._step(self, name)

    def perform(self, outputs: list[Any]) -> None:
        for output in outputs:
            if self.alive and isinstance(output, STEPS):
                self.step(type(output).__name__)
            super().perform([output])
        super().perform([])

    def carry_out(self, effect: Any) -> None:
        self.history.authorizer(self.process, effect)
        super().carry_out(effect)

    def run(self, coroutine: Any) -> None:
        try:
            super().run(coroutine)
        except Killed:
            coroutine.close()

    def store(self, stream: MemoryStream) -> WaitingStream:
        return WalkedStream(self, stream)

    def at_rest(self, path: Path) -> StorageKeyAtRest:
        return WalkedKey(self, path)


class WalkedStream(WaitingStream):
    """A store whose appends and purges are steps, before and after."""

    def __init__(self, node: WalkedNode, stream: MemoryStream) -> None:
        super().__init__(stream)
        self._node = node

    async def append(self, log: str, raw: bytes, expected: int) -> int:
        await self._step("the store is asked")
        sequence = await super().append(log, raw, expected)
        await self._step("the store has it")
        return sequence

    async def purge(self, log: str, before: int) -> None:
        await self._step("before the purge")
        await super().purge(log, before)

    async def read(self, log: str, after: int = 0) -> AsyncIterator[Stored]:
        async for stored in super().read(log, after):
            yield stored

    async def _step(self, name: str) -> None:
        self._node.step(name)
        if not self._node.alive:
            await pause(0)  # for ever


class WalkedKey(StorageKeyAtRest):
    """A key file whose writing is a step, before and after."""

    def __init__(self, node: WalkedNode, path: Path) -> None:
        super().__init__(path)
        self._node = node

    def save(self, *args: Any) -> None:
        self._step("before the key file")
        super().save(*args)
        self._step("after the key file")

    def _step(self, name: str) -> None:
        self._node.step(name)
        if not self._node.alive:
            raise Killed


class WatchedMsm(MsmNode):
    """An MSM whose keys are looked at."""

    history: History

    def carry_out(self, effect: Any) -> None:
        self.history.msm(effect)
        super().carry_out(effect)


class SurvivalDomain(Domain):
    """See the module. `first_key` is a copy of the storage key as it was drawn."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.history = History()
        self.step: Step = lambda node, name: None
        self.steps = 0
        self.processes = 0
        super().__init__(*args, **options)
        self.first_state = self.state / "first"
        self.copy_state(self.first_state)

    def authorizer_node(self, seed: int, state: Path) -> WalkedNode:
        self.processes += 1
        made = (self.world, self.switchboard, seed, self.stream, state)
        return WalkedNode(self.history, self.processes, self._stepped, *made)

    def msm_node(self, name: str, address: str, seed: int) -> MsmNode:
        node = WatchedMsm(self.world, self.switchboard, name, address, seed)
        node.history = self.history
        return node

    def _stepped(self, node: WalkedNode, name: str) -> None:
        self.steps += 1
        self.step(node, name)

    def copy_state(self, to: Path) -> Path:
        """A copy of the Authorizer's folder."""
        to.mkdir()
        shutil.copy2(self.state / "storage.key", to)
        return to

    def kill_at(self, step: int, state: Path | None = None) -> None:
        """The Authorizer dies at that step, and another process, with this state, begins a little later."""

        def kill(node: WalkedNode, name: str) -> None:
            if self.steps == step:
                node.kill()
                self.network.at(self.network.now + RESTARTED_AFTER, lambda: self.start_authorizer(state or self.state))

        self.step = kill

    # ---- what is asked

    def evict(self, user: str, host: str = "alpha") -> None:
        """The Coordinator's word, taken to the Authorizer by her MSM."""
        conference_id = self.conference_id
        subject = str(self.world.user(user).id)
        eviction = Eviction(conference_id=conference_id, subject=subject, time_ms=round(self.network.now * 1000))
        signed = self.world.user("alice").sign_statement(EVICTION_LABEL, eviction.SerializeToString())
        authorizer = str(self.world.authorizer.id)
        asked = EvictMemberRequest(conference_id=conference_id, eviction=signed, authorizer=authorizer)
        outcome = self.csm[host].ask("evict-member", asked)
        assert outcome.refused is None, outcome.refused

    def countersign(self, head: bytes) -> Countersignature:
        authorizer = str(self.world.authorizer.id)
        asked = CountersignRecordRequest(conference_id=self.conference_id, head=head, authorizer=authorizer)
        outcome = self.csm["alpha"].ask("countersign-record", asked)
        assert outcome.refused is None, outcome.refused
        return Countersignature.FromString(outcome.message.countersignature.statement)

    def begin_conference(self, policy: GroupPolicy | None = None) -> None:
        created = self.create(acceptable=tuple(USERS.values()), policy=policy)
        self.group, self.conference_id = created.groups[0], created.conference_id

    def join(self, host: str, user: str) -> None:
        outcome = self.csm[host].join(self.group, self.conference_id, user)
        assert outcome.refused is None, outcome.refused

    def leave(self, host: str, user: str) -> None:
        asked = LeaveGroupRequest(group_id=self.group.group_id, user=str(self.world.user(user).id))
        assert self.csm[host].ask("leave-group", asked).refused is None

    def run_as_csms_do(self, seconds: int) -> None:
        """Whoever is told that a statement of its user is needed joins again."""
        for _ in range(seconds):
            self.network.run_for(1.0)
            for host in self.csm:
                membership = self.msm[host].core.memberships.get(self.group.group_id)
                if membership is not None and membership.state == "stale":
                    self.csm[host].join(self.group, self.conference_id, USERS[host])

    # ---- what is looked at

    @property
    def alarms(self) -> set[str]:
        """What this process of the Authorizer wants an operator to look at."""
        return {alarm.what for alarm in self.authorizer.alarms}

    def countersigned(self) -> list[Countersignature]:
        """What the conference's log has, read by nobody's process."""
        found: list[Countersignature] = []
        copy = self.copy_state(self.state / f"reading{self.network.now}")

        async def read() -> None:
            logs = Logs(WaitingStream(self.stream), StorageKeyAtRest(copy / "storage.key"), _no_random, pause)
            loaded = await logs.read(conference_log(self.conference_id))
            assert loaded.whole
            for raw in [*([loaded.snapshot] if loaded.snapshot else []), *loaded.entries]:
                found.extend(ConferenceRecord.FromString(raw).countersigned)

        self.authorizer.run(read())
        self.network.run_for(0.1)
        return found

    def talk(self, *hosts: str) -> None:
        """Each of these hears what another of them says."""
        group_id = self.group.group_id
        group = self.authorizer.core.groups[group_id]
        for host in hosts:
            membership = self.msm[host].core.memberships[group_id]
            assert (host, membership.state) == (host, "member")
            assert (host, membership.epoch) == (host, group.epoch)
            words = f"{host} at {self.network.now}".encode()
            assert self.msm[host].send(group_id, words), host
            self.network.run_for(0.1)
            for other in set(hosts) - {host}:
                heard = [received.payload for received in self.msm[other].received[group_id]]
                assert words in heard, f"{other} doesn't hear {host}"


USERS = {"alpha": "alice", "beta": "bob", "beta too": "carol", "gamma": "dave", "delta": "erin"}
HOSTS = ("alpha", "beta", "gamma", "delta")


def _no_random(_: int) -> bytes:
    raise AssertionError("reading draws nothing")


class Wiretap:
    """Who was thrown out keeps every key, and listens on."""

    def __init__(self, domain: SurvivalDomain, host: str) -> None:
        self._path = domain.msm[host].paths[domain.group.group_id]
        self._packets: list[tuple[bytes, str]] = []
        self._domain = domain
        domain.network.join(self._path.group.address, f"{host} listens on", lambda *seen: self._packets.append(seen))

    def opened(self) -> list[Any]:
        """Applications' packets that could be opened."""
        now = self._domain.network.now
        found = [item for raw, source in self._packets for item in self._path.open(raw, source, now)]
        return [item for item in found if getattr(item, "destination_port", None) == 5004]


class ConferenceSurvivalDomain(ConferenceDomain, SurvivalDomain):
    """With real CSMs."""
