"""A record as control streams and a key scheme's run really make it, at each participant."""

from __future__ import annotations

from typing import Any

import pytest

from mcsa.ckgds.run import Established, KeyRun, Say
from mcsa.control.streams import ControlStreams, Delivered
from mcsa.record.verify import verify_record
from mcsa.v1 import conference_pb2 as wire
from tests.record.parts import Conference
from tests.world import seeded


class Member:
    """One participant: its streams, its run, its record."""

    def __init__(self, conference: Conference, name: str, seed: int) -> None:
        self.user = conference.world.user(name)
        self.conference = Conference(conference.world, writer=name)
        self.random = seeded(seed)
        self.process_id = self.random(16)
        self.run: KeyRun | None = None
        self.key: Established | None = None
        self.nonce = self.random(16)
        self.streams = ControlStreams(
            self.conference.id,
            self.user,
            self.process_id,
            conference.world.trust(),
            lambda _user: True,
            self.random,
            conference.now,
        )
        self.hear(self.streams.introduction)

    def participant(self) -> wire.Participant:
        leaf = self.user.identity.fingerprint
        return wire.Participant(
            user=str(self.user.id), certificate_fingerprint=leaf, process_id=self.process_id, nonce=self.nonce
        )

    def say(self, **body: Any) -> None:
        self.hear(self.streams.send(wire.ControlMessage(**body), self.conference.now))

    def hear(self, heard: Delivered) -> None:
        self.conference.record(heard.fragments)
        kind = heard.message.WhichOneof("body") or ""
        now, wishes = self.conference.now, []
        if kind == "run_start":
            coordinator = self.conference.description.coordinator
            self.run = KeyRun(
                self.conference.id, heard, coordinator, self.user, self.process_id, self.random, now, within=60.0
            )
            wishes = self.run.begin(now)
        elif self.run is not None and kind in ("run_round", "run_confirmation", "activate"):
            wishes = self.run.message_arrived(heard, now)
        for wish in wishes:
            if isinstance(wish, Say):
                self.hear(self.streams.send(wish.message, now))
            elif isinstance(wish, Established):
                self.key = wish


def exchange(members: list[Member]) -> None:
    """All datagrams to all, until nobody has anything to say."""
    while datagrams := [(one, datagram) for one in members for datagram in one.streams.outgoing()]:
        for sender, datagram in datagrams:
            for one in members:
                if one is not sender:
                    for heard in one.streams.datagram_arrived(datagram, one.conference.now):
                        assert isinstance(heard, Delivered)
                        one.hear(heard)


@pytest.mark.parametrize("ckgds", ["bd", "central"])
def test_everybodys_record_proves_the_run(ckgds: str):
    conference = Conference(seconds=0.1)
    members = [Member(conference, name, seed) for seed, name in enumerate(("alice", "bob", "carol"))]
    exchange(members)
    roster = [one.participant() for one in members]
    members[0].say(run_start=wire.RunStart(run=1, ckgds=ckgds, roster=roster, key_epoch=1))
    exchange(members)
    assert all(one.key is not None for one in members)
    members[0].say(closing=wire.Closing(positions=members[0].streams.positions()))
    exchange(members)
    for one in members:
        one.conference.countersign()
        found = verify_record(one.conference.writer.serialised(), conference.world.trust())
        assert found.complete and not found.irregular
        assert [participated.user for participated in found.participants] == [str(other.user.id) for other in members]
        assert [key.ckgds for key in found.keys] == [ckgds]
