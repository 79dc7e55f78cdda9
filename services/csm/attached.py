"""The applications that are attached to a local user's conference: what they seal, what they are told. Sans-I/O."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from mcsa.control.streams import Delivered
from mcsa.encoding import digest
from mcsa.endpoint import Count
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1.conference_pb2 import ControlMessage, ProcessAnnouncement, Receipt, SealedMessage
from services.csm.asking import Effects
from services.csm.events import TellApplication

if TYPE_CHECKING:
    from services.csm.participant import LocalParticipant

PROCESSES_PER_USER = 256
PROCESS_LABEL = "mcsa process v1"


class Attached:
    """`processes` are the conference's application processes, ours and others', by their random ids: user and SFrame
    key id. A key id is a hash over user and process, so that nobody takes another's."""

    def __init__(self, participant: LocalParticipant) -> None:
        self._participant = participant
        self._connections: dict[object, bytes] = {}
        self.processes: dict[bytes, tuple[str, int]] = {}

    def attach(self, connection: object, application_id: bytes, now: float) -> tuple[int, Effects]:
        """An application process; its SFrame key id, 0 for one that only listens, and what it is told first."""
        self._connections[connection] = application_id
        effects: Effects = [TellApplication(connection, event) for event in self._so_far()]
        if not application_id:
            return 0, effects
        key_id = _key_id(self._participant.name, application_id)
        announcement = ProcessAnnouncement(application_id=application_id, key_id=key_id)
        return key_id, effects + self._participant.say(ControlMessage(process_announcement=announcement), now)

    def gone(self, connection: object) -> None:
        """An application has disconnected; what it sealed can still be opened."""
        self._connections.pop(connection, None)

    def tell(self, event: Message) -> Effects:
        """An event for all applications."""
        return [TellApplication(connection, event) for connection in self._connections]

    def _so_far(self) -> list[Message]:
        events: list[Message] = [self._process(found, *self.processes[found]) for found in self.processes]
        key = self._participant.keying.key_event()
        return events if key is None else [*events, key]

    # ---- what the control group brings

    def process_announced(self, heard: Delivered, body: ProcessAnnouncement, _now: float) -> Effects:
        """A process of somebody that will seal."""
        if body.key_id != _key_id(heard.user, body.application_id):
            return [Count("rejected.process.key-id")]
        own = [known for known, (user, _) in self.processes.items() if user == heard.user]
        if len(own) >= PROCESSES_PER_USER:  # the oldest has long ended
            del self.processes[own[0]]
        self.processes[body.application_id] = (heard.user, body.key_id)
        return self.tell(self._process(body.application_id, heard.user, body.key_id))

    def sealed(self, heard: Delivered, body: SealedMessage, now: float) -> Effects:
        """Something that was sealed; confirmed where its sender asked for it."""
        participant = self._participant
        event = wire.MessageArrived(
            conference_id=participant.conference_id, user=heard.user, sframe=body.sframe, time_ms=round(now * 1000)
        )
        effects = self.tell(event)
        if body.receipt and heard.user != participant.name:
            receipt = Receipt(
                process_id=heard.process_id,
                sequence=heard.sequence,
                message_hash=hashlib.sha256(heard.raw).digest(),
            )
            effects += participant.say(ControlMessage(receipt=receipt), now)
        return effects

    def _process(self, application_id: bytes, user: str, key_id: int) -> wire.ProcessChanged:
        return wire.ProcessChanged(
            conference_id=self._participant.conference_id, user=user, application_id=application_id, key_id=key_id
        )


def _key_id(user: str, application_id: bytes) -> int:
    """64 bits."""
    return int.from_bytes(digest(PROCESS_LABEL, user, application_id)[:8], "big")
