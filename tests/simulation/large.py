"""A domain with very many hosts: the Authorizer's real core and logs, and of each host its real membership.

What is real: registration (rules, HPKE, the sealed association), batches, keys, signed updates and beacons, what a
host makes of them, repairs, leases, evictions, records in a log, and a restart from it. What is not: hosts have no
certificates (a thousand a second could not be issued) but are named to the core as their envelopes would name them; a
request costs no signature; the packet path is a payload with its epoch in front (`large_host.py`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, cast

from mcsa.conference_id import CONFERENCE_LABEL
from mcsa.encoding import Part
from mcsa.endpoint import Answer, Count, Endpoint, Refuse, Requested, Woken
from mcsa.envelope import payload_hash
from mcsa.identity import Credentials, Identity, SpiffeId
from mcsa.keys import GroupKey, Random
from mcsa.statements import EVICTION_LABEL
from mcsa.trust import Trust
from mcsa.updates import open_update, parse_message, parse_update, update_key
from mcsa.v1 import authorizer_pb2 as wire
from mcsa.v1.types_pb2 import POLICY_CLASS_OPEN, ConferenceDescription, GroupDescription, GroupPolicy
from services.authorizer import events
from services.authorizer.core import AuthorizerCore
from tests.simulation.large_host import EPOCH_SIZE, Answered, LargeHost, membership_of
from tests.simulation.network import START, Network, Weather
from tests.simulation.nodes import AuthorizerNode, Switchboard
from tests.simulation.stream import MemoryStream
from tests.world import World, seeded

POLICY = GroupPolicy(
    gkm="lkh", batch_ms=500, beacon_ms=10_000, beacon_silence_ms=40_000, lease_s=60, deactivation_ms=1_500
)
ADDRESS = "the group's"
BUS_DELAY = 0.0005
BUS_LOSS = 0.05  # of one copy to one host: NATS drops what a slow consumer doesn't take
ON_THE_BUS = 3  # every third host listens there too, the others to multicast alone


class _Remembering(Identity):
    """The same bytes under the same certificate get the same verdict: each verdict is found once and kept."""

    good: ClassVar[set[tuple[Any, ...]]] = set()

    def check_signature(self, signature: bytes, label: str, *parts: Part) -> None:
        said = (self.chain, signature, label, parts)
        if said not in self.good:
            super().check_signature(signature, label, *parts)
            self.good.add(said)


class SharedTrust(Trust):
    """All hosts' trust in one object: of ten thousand that verify identical bytes one does, the rest believe it.

    That is honest because verifying has no state: the verdict follows from certificate, label, parts and signature, all
    of which are compared. What is saved is time, 0.1 ms for each host and update; decrypting, numbers and keys are each
    host's own work.
    """

    def verify_chain(self, *args: Any, **more: Any) -> Identity:
        identity = super().verify_chain(*args, **more)
        return _Remembering(identity.id, identity.certificate, identity.chain)


class _Direct:
    """In place of an endpoint: the core's effects as they are."""

    def __init__(self, core: AuthorizerCore, credentials: Credentials) -> None:
        self.credentials = credentials
        self.caller = credentials.id.token
        self.service = "authorizer"
        self._core = core

    def handle(self, event: Any, now: float) -> list[Any]:
        return self._core.handle(event, now)

    def carry_out(self, effects: list[Any], now: float) -> list[Any]:
        return effects

    def tick(self, now: float) -> list[Any]:
        return self._core.handle(Woken(), now)

    def wake_at(self) -> float | None:
        return self._core.wake_at()


class LargeAuthorizer(AuthorizerNode):
    """The Authorizer with its logs; asked directly, and heard by packets of `large_host`."""

    def __init__(self, domain: LargeDomain, seed: int, stream: MemoryStream, state: Path) -> None:
        self.domain = domain
        super().__init__(domain.world, Switchboard(domain.network), seed, stream, state)

    def make_endpoint(
        self, world: World, core: AuthorizerCore, random: Random, peers: Mapping[str, Sequence[str]]
    ) -> Endpoint:
        return cast(Endpoint, _Direct(core, world.authorizer))

    def carry_out(self, effect: Any) -> None:
        match effect:
            case Answer():
                cast(Answered, effect.token)(effect.message)
            case Refuse():
                cast(Answered, effect.token)(effect.refusal)
            case Count():
                self.domain.told[effect.name] += effect.by
            case events.InstallSender():
                self.domain.keys[effect.epoch] = effect.key
            case events.DropSender():
                pass
            case events.SendToGroup():
                self.domain.multicast(effect.epoch, effect.payload)
            case events.Tell():
                self.domain.publish(effect.payload)
            case _:
                super().carry_out(effect)


class LargeDomain:
    """See the module."""

    def __init__(self, seed: int, loss: float = 0.08) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.world = World(now=START)
        self.network = Network(seed, Weather(loss=loss, duplication=0.01))
        self.trust = SharedTrust(self.world.domain, [self.world.authority.certificate])
        self.told: Counter[str] = Counter()
        self.keys: dict[int, GroupKey] = {}  # of the group, by epoch
        self.updates: dict[int, bytes] = {}  # all there were, by number
        self.hosts: dict[str, LargeHost] = {}
        self.departed: list[LargeHost] = []
        self._stream = MemoryStream()
        self._folder = TemporaryDirectory()
        self._any_host = self.world.host("any")
        self._names = 0
        self._starts = 0
        self.start_authorizer()
        self.created: wire.CreateResponse = self._create()

    # ---- the Authorizer

    def start_authorizer(self) -> None:
        """A process, with what an earlier one wrote down."""
        self._starts += 1
        seed, state = self.seed * 100 + self._starts, Path(self._folder.name)
        self.authorizer = LargeAuthorizer(self, seed, self._stream, state)

    def restart_authorizer(self, down: float) -> None:
        """Killed, and another one after some seconds."""
        self.authorizer.kill()
        self.network.at(self.network.now + down, self.start_authorizer)

    @property
    def group(self) -> Any:
        return self.authorizer.core.groups[self.created.groups[0].group_id]

    def ask(self, verb: str, host: str, message: Any, answered: Answered) -> None:
        """See `large_host.Desk`. The bus loses nothing while the Authorizer lives."""
        caller = Identity(SpiffeId.parse(host), self._any_host.certificate, self._any_host.chain)

        def answer(found: Any) -> None:
            self.network.at(self.network.now + BUS_DELAY, lambda: answered(found))

        request = Requested(verb, caller, message, answer, payload_hash(message))
        self.network.at(self.network.now + BUS_DELAY, lambda: self.authorizer.event(request))

    def ask_and_wait(self, verb: str, message: Any) -> Any:
        found: list[Any] = []
        self.ask(verb, str(self._any_host.id), message, found.append)
        assert self.network.run_until(lambda: bool(found), 30.0)
        return found[0]

    def _create(self) -> wire.CreateResponse:
        alice = self.world.user("alice")
        description = ConferenceDescription(
            title="a large one",
            coordinator=str(alice.id),
            policy_class=POLICY_CLASS_OPEN,
            groups=[GroupDescription(name="g", port=5004, policy=POLICY)],
            authorizer=str(self.world.authorizer.id),
            nonce=seeded(self.seed)(16),
        )
        signed = alice.sign_statement(CONFERENCE_LABEL, description.SerializeToString())
        response = self.ask_and_wait("create", wire.CreateRequest(description=signed))
        assert isinstance(response, wire.CreateResponse), response
        return response

    # ---- both ways to the hosts

    def multicast(self, epoch: int, payload: bytes) -> None:
        """Each host loses, doubles and delays on its own."""
        self.network.send("authorizer", ADDRESS, epoch.to_bytes(EPOCH_SIZE, "big") + payload)

    def publish(self, payload: bytes) -> None:
        """To those that listen on the bus; updates are kept for who attacks them later."""
        message = parse_message(payload)
        if message.HasField("update"):
            self.updates[parse_update(message.update).number] = message.update
        for number, host in enumerate(self.hosts.values()):
            if number % ON_THE_BUS == 0 and self.chance.random() >= BUS_LOSS:
                self.network.at(self.network.now + BUS_DELAY, partial(host.payload, payload))

    # ---- hosts

    def arrive(self, count: int, within: float) -> None:
        """So many new hosts, spread over some seconds; one in a hundred sends."""
        for _ in range(count):
            number, self._names = self._names, self._names + 1
            name = f"spiffe://example.org/host/h{number}"
            address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            own = seeded(self.seed * 1_000_003 + number)
            membership = membership_of(name, self.created, str(self.world.authorizer.id), self.trust, own)
            host = LargeHost(self, membership, address, self.told, sender=number % 100 == 0)
            self.hosts[name] = host
            self.network.join(ADDRESS, address, host.packet)
            self.network.at(self.network.now + self.chance.random() * within, host.register)

    def pick(self, count: int) -> list[LargeHost]:
        """Some that are members now."""
        members = [host for host in self.hosts.values() if host.membership.state == "member" and not host.deaf]
        return self.chance.sample(members, count)

    def depart(self, host: LargeHost) -> None:
        """It isn't to be a member any more; it keeps all it has."""
        del self.hosts[host.name]
        self.departed.append(host)
        self.network.leave(ADDRESS, host.address)

    def evict(self, host: LargeHost) -> None:
        """At the Coordinator's word."""
        eviction = wire.Eviction(
            conference_id=self.created.conference_id, subject=host.name, time_ms=round(self.network.now * 1000)
        )
        signed = self.world.user("alice").sign_statement(EVICTION_LABEL, eviction.SerializeToString())
        answer = self.ask_and_wait("evict", wire.EvictRequest(eviction=signed))
        assert isinstance(answer, wire.EvictResponse), answer

    # ---- afterwards

    def rekeys(self) -> list[bytes]:
        """What all updates say to those that can open them."""
        now, authorizer, found = self.network.now, str(self.world.authorizer.id), []
        for raw in self.updates.values():
            sealed = parse_update(raw)
            key = update_key(self.keys[sealed.under_epoch], sealed.group_id, sealed.under_epoch)
            found.append(open_update(sealed, key, self.trust, authorizer, now).gkm_rekey)
        return [rekey for rekey in found if rekey]
