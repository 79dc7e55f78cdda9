"""Conferences in the simulated domain: the real CSMs on the real MSMs, a directory, and applications."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from mcsa import subjects
from mcsa.endpoint import Answer, Endpoint, Requested
from mcsa.errors import Refused, Rejected
from mcsa.keys import ConferenceKey
from mcsa.sdk.frames import Frames
from mcsa.subjects import GROUP_CHANGED
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1 import msm_pb2, sd_pb2
from mcsa.v1.conference_pb2 import ControlMessage
from mcsa.v1.types_pb2 import (
    POLICY_CLASS_CLOSED,
    AccessControl,
    GroupDescription,
    GroupPolicy,
    PolicyClass,
    SessionAnnouncement,
)
from services.csm import events
from services.csm.core import CsmCore
from services.csm.setting import Setting
from services.csm.terms import CONTROL_PORT
from services.msm.path import Received
from tests.simulation.domain import Domain
from tests.simulation.nodes import MsmNode, Node, Switchboard
from tests.world import World, seeded


class DirectoryNode(Node):
    """Lists what was announced. SAP itself is tested where sockets are real."""

    def __init__(self, world: World, switchboard: Switchboard) -> None:
        self.core = _DirectoryCore()
        endpoint = Endpoint(
            subjects.SD, world.directory.id.token, world.directory, world.trust(), self.core, seeded(99)
        )
        super().__init__("sd", endpoint, switchboard)

    def hear(self, other: DirectoryNode) -> None:
        """Both hear what the other announces: they are on one multicast network."""
        self.core.announced = other.core.announced


@dataclass
class _DirectoryCore:
    announced: dict[bytes, bytes] = field(default_factory=dict)
    clashes: list[SessionAnnouncement] = field(default_factory=list)  # told to whoever announces
    announced_ms: int = 0

    def handle(self, event: Any, now: float) -> list[Any]:
        assert isinstance(event, Requested)
        match event.verb:
            case "announce":
                self.announced[hashlib.sha256(event.message.sdp).digest()] = event.message.sdp
                answer = sd_pb2.AnnounceResponse(clashes=self.clashes, announced_ms=self.announced_ms)
                return [Answer(event.token, answer)]
            case "withdraw":
                self.announced.pop(hashlib.sha256(event.message.sdp).digest(), None)
                return [Answer(event.token, sd_pb2.WithdrawResponse())]
        sessions = [SessionAnnouncement(sdp=sdp) for sdp in self.announced.values()]
        return [Answer(event.token, sd_pb2.ListResponse(sessions=sessions))]

    def wake_at(self) -> float | None:
        return None

    def reauthorise(self, request: Requested, now: float) -> None:
        return None


class CsmNode(Node):
    """A host's CSM; its disk is in `remembered`, `keys` and `records`."""

    def __init__(
        self, world: World, switchboard: Switchboard, msm: MsmNode, name: str, seed: int, disk: Disk | None = None
    ) -> None:
        credentials = world.host(name)
        self.world = world
        self.msm = msm
        self.disk = disk or Disk()
        self.core = CsmCore(Setting(str(credentials.id), str(world.authorizer.id), world.trust(), seeded(seed)))
        endpoint = Endpoint(
            subjects.CSM,
            credentials.id.token,
            credentials,
            world.trust(),
            self.core,
            seeded(seed + 1),
            publications={"mcsa.v1.GroupChanged": msm_pb2.GroupChanged},
            publishers=("host",),
        )
        own = subjects.subject(subjects.CSM, credentials.id.token, GROUP_CHANGED)
        super().__init__(f"csm-{name}", endpoint, switchboard, (own,))
        self._relays: set[bytes] = set()
        self.listen_to(msm)
        if self.disk.remembered:
            self.event(events.Recovered(list(self.disk.remembered.values())))

    def listen_to(self, msm: MsmNode) -> None:
        """The MSM's local sockets."""
        self.msm = msm
        msm.listener = self._heard

    def msm_gone(self) -> None:
        """The MSM's sockets have ended."""
        lost, self._relays = self._relays, set()
        for group_id in lost:
            self.event(events.RelayLost(group_id))

    def _heard(self, group_id: bytes, received: Received) -> None:
        if group_id in self._relays and received.destination_port == CONTROL_PORT:
            self.event(events.ControlArrived(group_id, received.payload))

    def carry_out(self, effect: Any) -> None:
        match effect:
            case events.AnswerApplication():
                effect.connection.answered(effect)  # type: ignore[attr-defined]
            case events.TellApplication():
                effect.connection.told(effect.message)  # type: ignore[attr-defined]
            case events.LoadUser():
                name = effect.key.path
                user = self.world.user(name)
                self.event(events.UserLoaded(effect.then, user))
            case events.OpenRelay():
                self._relays.add(effect.group_id)
            case events.CloseRelay():
                self._relays.discard(effect.group_id)
            case events.SendControl():
                if effect.group_id in self._relays and effect.group_id in self.msm.paths:
                    self.msm.send(effect.group_id, effect.datagram, effect.port)
            case events.Remember():
                self.disk.remember(effect)
            case events.KeepKey():
                self.disk.keep(effect)
            case events.WriteRecord():
                self.disk.records[effect.name] = effect.record
            case _:
                raise TypeError(effect)


@dataclass
class Disk:
    """What outlives a CSM's process."""

    remembered: dict[tuple[bytes, str], wire.RememberedParticipation] = field(default_factory=dict)
    keys: dict[tuple[bytes, str], tuple[int, ConferenceKey]] = field(default_factory=dict)
    records: dict[str, bytes] = field(default_factory=dict)

    def remember(self, effect: events.Remember) -> None:
        place = (effect.conference_id, effect.user)
        if effect.participation is None:
            self.remembered.pop(place, None)
        else:
            self.remembered[place] = effect.participation

    def keep(self, effect: events.KeepKey) -> None:
        place = (effect.conference_id, effect.user)
        if effect.key is None:
            self.keys.pop(place, None)
        else:
            self.keys[place] = (effect.key_epoch, effect.key)


class Application:
    """A program of a user: what the SDK does, without its socket."""

    def __init__(self, node: CsmNode, user: str, seed: int) -> None:
        self.node = node
        self.user = node.world.user(user)
        self._key = wire.UserKey(path=user)
        self._answers: dict[int, events.AnswerApplication] = {}
        self._number = 0
        self._frames = Frames(str(self.user.id), seeded(seed)(16))
        self.conference_id = b""
        self.events: list[Message] = []
        self.state = wire.ConferenceState()
        self.keys: dict[int, bytes] = {}
        self.heard: list[tuple[str, bytes]] = []

    # ---- of the CSM

    def answered(self, effect: events.AnswerApplication) -> None:
        self._answers[effect.number] = effect

    def told(self, event: Message) -> None:
        self.events.append(event)
        opened = []
        match event:
            case wire.ConferenceChanged():
                self.state = event.state
            case wire.KeyChanged():
                self.keys[event.key_epoch] = event.key
                opened = self._frames.key_changed(event.key_epoch, ConferenceKey(event.key))
            case wire.ProcessChanged():
                opened = self._frames.process_changed(event.user, event.application_id, event.key_id)
            case wire.MessageArrived():
                try:
                    opened = self._frames.open(event.user, event.sframe)
                except Rejected:
                    return
        self.heard += [(message.user.rsplit("/", 1)[1], message.content) for message in opened]

    # ---- of the user

    def begin(self, verb: str, message: Message, traceparent: str | None = None) -> int:
        """Asks; the number to look for the answer under."""
        self._number += 1
        self.node.event(events.ApplicationAsked(self, self._number, verb, message, traceparent))
        return self._number

    def answer_to(self, number: int, within: float = 20.0) -> Any:
        """The answer; raises the refusal."""
        self.node.network.run_until(lambda: number in self._answers, within)
        answer = self._answers[number]
        if answer.refusal is not None:
            raise answer.refusal
        return answer.message

    def ask(self, verb: str, message: Message, within: float = 20.0) -> Any:
        return self.answer_to(self.begin(verb, message), within)

    def convene(
        self,
        acceptable: Mapping[str, Any] | tuple[str, ...],
        *,
        wait: float = 5.0,
        expected: tuple[str, ...] | None = None,
        ckgds: tuple[str, ...] = (),
        policy: GroupPolicy | None = None,
        policy_class: PolicyClass.ValueType = POLICY_CLASS_CLOSED,
        media: tuple[GroupDescription, ...] = (),
    ) -> bytes:
        """A conference; its id."""
        ids = [self._id_of(name) for name in acceptable]
        named = ids if expected is None else [self._id_of(name) for name in expected]
        response = self.ask(
            "convene",
            wire.ConveneRequest(
                user=self._key,
                title="a conference",
                groups=media,
                access=AccessControl(acceptable_users=ids),
                policy_class=policy_class,
                ckgds=ckgds,
                wait_ms=round(wait * 1000),
                expected_users=named,
                policy=policy,
            ),
        )
        self.conference_id = response.conference_id
        self.attach()
        return self.conference_id

    def _id_of(self, name: str) -> str:
        """A user of the own domain, unless the whole name is given."""
        return name if name.startswith("spiffe://") else str(self.node.world.user(name).id)

    def join(self, conference_id: bytes) -> None:
        self.ask("join", wire.JoinRequest(user=self._key, conference_id=conference_id))
        self.conference_id = conference_id
        self.attach()

    def attach(self) -> None:
        asked = wire.AttachRequest(
            conference_id=self.conference_id, application_id=self._frames.application_id, user=str(self.user.id)
        )
        response = self.ask("attach", asked)
        self.state = response.state
        self._frames.key_id = response.key_id
        self._frames.process_changed(str(self.user.id), self._frames.application_id, response.key_id)

    def say(self, content: bytes, *, receipt: bool = False) -> None:
        frame = self._frames.seal(content)
        asked = wire.SendRequest(
            conference_id=self.conference_id, sframe=frame, receipt=receipt, user=str(self.user.id)
        )
        self.ask("send", asked)

    def eject(self, user: str, *, ban: bool = False) -> wire.EjectResponse:
        subject = self._id_of(user)
        response = self.ask("eject", wire.EjectRequest(conference_id=self.conference_id, subject=subject, ban=ban))
        assert isinstance(response, wire.EjectResponse)
        return response

    def call_anew(self) -> None:
        """The Coordinator calls, for no reason but the test's."""
        self._perform(self.participant.call_anew(self.node.network.now))

    def say_control(self, message: ControlMessage) -> None:
        """Whatever this user's CSM would never say by itself; signed by the user all the same."""
        participant, now = self.participant, self.node.network.now
        participant.streams.send(message, now)
        self._perform([])

    def send_control(self, datagram: bytes) -> None:
        """Bytes into the control group."""
        group_id = self.participant.terms.control.group_id
        self._perform([events.SendControl(group_id, CONTROL_PORT, datagram)])

    def _perform(self, effects: list[Any]) -> None:
        now = self.node.network.now
        self.node.perform(self.node.endpoint.carry_out([*effects, *self.participant.outgoing()], now))

    def leave(self) -> str:
        asked = wire.ConferenceServiceLeaveRequest(conference_id=self.conference_id, user=str(self.user.id))
        return str(self.ask("leave", asked).record_path)

    def refusal_of(self, verb: str, message: Message) -> Refused:
        """The refusal that this is answered with."""
        try:
            self.ask(verb, message)
        except Refused as refused:
            return refused
        raise AssertionError(f"{verb} was not refused")

    @property
    def participant(self) -> Any:
        """What the CSM holds of it."""
        return self.node.core.participants.find(self.conference_id, str(self.user.id))


class ConferenceDomain(Domain):
    """A domain with a CSM on each host and a directory."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.csms: dict[str, CsmNode] = {}
        super().__init__(*args, **options)
        self.directory = DirectoryNode(self.world, self.switchboard)

    def add_host(self, name: str) -> None:
        super().add_host(name)
        self.csm[name].kill()  # the stand-in of tests without CSM
        seed = self.seed * 5000 + 10 * len(self.msm)
        self.csms[name] = CsmNode(self.world, self.switchboard, self.msm[name], name, seed)

    def restart_csm(self, name: str) -> None:
        old = self.csms[name]
        old.kill()
        self.csms[name] = CsmNode(self.world, self.switchboard, self.msm[name], name, self.seed * 7000, old.disk)

    def restart_msm(self, name: str) -> None:
        super().restart_msm(name)
        self.csms[name].listen_to(self.msm[name])
        self.csms[name].msm_gone()

    def application(self, host: str, user: str) -> Application:
        return Application(self.csms[host], user, self.seed * 100 + len(user) + ord(user[0]))
