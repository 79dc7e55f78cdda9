"""`mcsa.connect(...)`: conferences for applications, in a few lines.

async with mcsa.connect(host="beta", user="bob.pem") as me:
    conference = await me.join("Budget meeting")
    await conference.send("hello")
    async for message in conference:
        print(message.user, message.text)
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcsa.errors import Refused, Rejected
from mcsa.key_files import load_credentials
from mcsa.keys import ConferenceKey
from mcsa.sdk.client import CsmClient
from mcsa.sdk.frames import Frames
from mcsa.sdk.places import csm_socket
from mcsa.v1 import csm_pb2 as wire
from mcsa.v1.msm_pb2 import GroupState, Session
from mcsa.v1.types_pb2 import (
    POLICY_CLASS_CLOSED,
    POLICY_CLASS_OPEN,
    AccessControl,
    GroupDescription,
    GroupPolicy,
    RepeatTimes,
)

KEY_WITHIN = 30.0  # seconds to wait for a conference key before giving up


def user_id(own: str, name: str) -> str:
    """A user's SPIFFE ID: a name as people say it ("bob") is a user of the domain of one's `own` ID."""
    return name if name.startswith("spiffe://") else f"{own.rsplit('/', 1)[0]}/{name}"


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a participant."""

    user: str
    content: bytes
    key_epoch: int

    @property
    def text(self) -> str:
        """As UTF-8 text."""
        return self.content.decode(errors="replace")


class Conference:
    """A conference that this process takes part in. Iterate over it for what the others say, to its end; `Refused`
    where the CSM ends before."""

    def __init__(self, client: CsmClient, conference_id: bytes, user: str) -> None:
        self.id = conference_id
        self.state = wire.ConferenceState()
        self._client = client
        self._frames = Frames(user, os.urandom(16))
        self._messages: asyncio.Queue[Said | Refused | None] = asyncio.Queue()
        self._changed = asyncio.Condition()

    @property
    def participants(self) -> list[str]:
        """SPIFFE IDs of those that hold the conference key."""
        return list(self.state.participants)

    async def attach(self) -> None:
        """Begins to receive events; sealing needs `key`."""
        asked = wire.AttachRequest(
            conference_id=self.id, application_id=self._frames.application_id, user=self._frames.user
        )
        response = await self._client.ask("attach", asked)
        self._frames.key_id = response.key_id
        self._frames.process_changed(self._frames.user, self._frames.application_id, response.key_id)
        await self._take_state(response.state)

    async def key(self, within: float = KEY_WITHIN) -> int:
        """Waits for a conference key; its epoch. `Refused` where the conference fails, or the time is over."""

        def decided() -> bool:
            return self._frames.epoch > 0 or self.state.state in ("failed", "closed")

        try:
            async with self._changed:
                await asyncio.wait_for(self._changed.wait_for(decided), within)
        except TimeoutError:
            sentence = f"no conference key within {within:g} s: the conference is {self.state.state or 'unknown'}"
            raise Refused("no-key", "deadline", sentence) from None
        if self._frames.epoch == 0:
            raise Refused("no-key", self.state.state, f"the conference {self.state.state}: {self.state.reason}")
        return self._frames.epoch

    async def send(self, content: bytes | str, *, receipt: bool = False) -> None:
        """Seals under the conference key and sends; waits for the first key where there is none yet."""
        await self.key()
        frame = self._frames.seal(content.encode() if isinstance(content, str) else content)
        asked = wire.SendRequest(conference_id=self.id, sframe=frame, receipt=receipt, user=self._frames.user)
        await self._client.ask("send", asked)

    async def call(self) -> None:
        """Ends the waiting period: the conference-call goes out now (Coordinator only)."""
        await self._client.ask("call", wire.ConferenceServiceCallRequest(conference_id=self.id))

    async def eject(self, user: str, reason: str = "", *, ban: bool = False) -> list[int]:
        """Throws a user out (Coordinator only); the group epochs that follow. `Refused` where nobody of that name is
        there, or may come by name; with `ban` also that one is kept out."""
        subject = user_id(self._frames.user, user)
        asked = wire.EjectRequest(conference_id=self.id, subject=subject, reason=reason, ban=ban)
        response: wire.EjectResponse = await self._client.ask("eject", asked)
        return list(response.epochs)

    async def move(self) -> list[GroupDescription]:
        """Gives the groups other addresses (Coordinator); returns once that is announced. Members register again."""
        asked = wire.ConferenceServiceMoveRequest(conference_id=self.id)
        return list((await self._client.ask("move", asked)).groups)

    async def leave(self) -> Path:
        """Ends the user's participation; the path of the record."""
        asked = wire.ConferenceServiceLeaveRequest(conference_id=self.id, user=self._frames.user)
        response: wire.ConferenceServiceLeaveResponse = await self._client.ask("leave", asked)
        return Path(response.record_path)

    def socket(self, group: str) -> Path:
        """The local socket of a media group, by its name: plaintext in and out (`mcsa.shell.local_frames`, whose
        `connect_frames` returns once nothing is missed). `Refused` where the conference has no such group."""
        if group not in self.state.sockets:
            there = ", ".join(sorted(self.state.sockets)) or "none yet"
            raise Refused("unknown-group", "conference", f"this conference has no group '{group}'; its groups: {there}")
        return Path(self.state.sockets[group])

    def reveal_key(self) -> bytes:
        """The conference key in use, for who keeps or checks it outside of MCSA; `LookupError` before the first."""
        return self._frames.reveal_key()

    async def wait_for(self, *states: str, within: float = KEY_WITHIN) -> wire.ConferenceState:
        """Waits until the conference is in one of these states, or has failed."""
        async with self._changed:
            wanted = {*states, "failed"}
            await asyncio.wait_for(self._changed.wait_for(lambda: self.state.state in wanted), within)
        return self.state

    def __aiter__(self) -> AsyncIterator[Said]:
        return self._said()

    async def _said(self) -> AsyncIterator[Said]:
        while (message := await self._messages.get()) is not None:
            if isinstance(message, Refused):
                raise message
            yield message

    # ---- events

    async def take(self, event: Any) -> None:
        """An event of the CSM."""
        opened = []
        match event:
            case wire.ConferenceChanged():
                await self._take_state(event.state)
            case wire.KeyChanged():
                opened = self._frames.key_changed(event.key_epoch, ConferenceKey(event.key))
                async with self._changed:
                    self._changed.notify_all()
            case wire.ProcessChanged():
                opened = self._frames.process_changed(event.user, event.application_id, event.key_id)
            case wire.MessageArrived():
                try:
                    opened = self._frames.open(event.user, event.sframe)
                except Rejected:
                    return
        for message in opened:
            self._messages.put_nowait(Said(message.user, message.content, message.key_epoch))

    async def _take_state(self, state: wire.ConferenceState) -> None:
        async with self._changed:
            self.state = state
            self._changed.notify_all()
        if state.state in ("closed", "failed"):
            self.end()

    def end(self, why: Refused | None = None) -> None:
        """Nothing more will be said; whoever iterates gets `why`, where that isn't in order."""
        self._messages.put_nowait(why)


@dataclass(frozen=True, slots=True)
class SendOnly:
    """A group that this host sends to and is no member of."""

    _client: CsmClient
    conference_id: bytes
    group: GroupDescription
    socket: Path  # plaintext goes in here (`mcsa.shell.local_frames`); nothing comes out
    sender_id: int

    async def end(self) -> None:
        """Sends no more."""
        asked = wire.EndSendOnlyRequest(conference_id=self.conference_id, group=self.group.name)
        await self._client.ask("end-send-only", asked)


class Connection:
    """A user on a host. An asynchronous context manager."""

    def __init__(self, host: str | None, user: str | Path | None, passphrase: str, socket: Path | None) -> None:
        self._path = socket or csm_socket(host)
        self._key = wire.UserKey(path=str(Path(user).resolve()) if user else "", passphrase=passphrase)
        self._passphrase = passphrase
        self._client: CsmClient | None = None
        self._conferences: dict[bytes, Conference] = {}
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._client = await CsmClient.connect(self._path, self._events.put_nowait)
        self._tasks = [asyncio.create_task(self._deliver()), asyncio.create_task(self._await_end(self._client))]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for conference in self._conferences.values():
            conference.end()
        await self.client.close()

    @property
    def client(self) -> CsmClient:
        """For what has no method here."""
        if self._client is None:
            raise RuntimeError("use `async with mcsa.connect(...)`")
        return self._client

    @property
    def user(self) -> str:
        """SPIFFE ID of the user."""
        if not self._key.path:
            raise Refused("user", "key-file", "this needs a user: say which by user=FILE, or --user FILE")
        return str(load_credentials(Path(self._key.path), self._passphrase.encode() or None).id)

    async def sessions(self) -> list[Session]:
        """What the directory heard."""
        response = await self.client.ask("list-sessions", wire.ConferenceServiceListSessionsRequest())
        return list(response.sessions)

    async def conferences(self) -> list[wire.ConferenceState]:
        """The conferences of this host."""
        response = await self.client.ask("list-conferences", wire.ListConferencesRequest())
        return list(response.conferences)

    async def groups(self) -> list[GroupState]:
        """What this host's MSM does for each multicast group, with counters of packets."""
        response = await self.client.ask("describe-groups", wire.ConferenceServiceDescribeGroupsRequest())
        return list(response.groups)

    async def convene(
        self,
        title: str,
        *,
        acceptable_users: Sequence[str] = (),
        acceptable_senders: Sequence[str] = (),
        media: Sequence[GroupDescription] = (),
        expected: Sequence[str] | None = None,
        wait: float = 5.0,
        open_to_all: bool = False,
        ckgds: Sequence[str] = (),
        policy: GroupPolicy | None = None,
        start: int = 0,
        end: int = 0,
        repeats: Sequence[RepeatTimes] = (),
    ) -> Conference:
        """Convenes a conference; its Coordinator is this user. Users are SPIFFE IDs, or names in this user's domain
        ("bob"). The call goes out when all `expected` users (all that
        are acceptable, unless told) have joined, or after `wait` seconds, or with `Conference.call`. The
        `acceptable_senders` may send to its media groups without joining; `open_to_all`, everybody may.

        `start` (0: now), `end` (0: none is known), in seconds since 1970, and `repeats` are announced: people read
        them, and the announcement ends with `end`; the conference itself is held when it is called."""
        own = self.user
        users, senders = ([user_id(own, name) for name in names] for names in (acceptable_users, acceptable_senders))
        asked = wire.ConveneRequest(
            user=self._key,
            title=title,
            groups=media,
            access=AccessControl(acceptable_users=users, acceptable_senders=senders),
            policy_class=POLICY_CLASS_OPEN if open_to_all else POLICY_CLASS_CLOSED,
            ckgds=ckgds,
            wait_ms=round(wait * 1000),
            expected_users=users if expected is None else [user_id(own, name) for name in expected],
            policy=policy,
            start_s=start,
            end_s=end,
            repeats=repeats,
        )
        response = await self.client.ask("convene", asked)
        return await self.attach(response.conference_id)

    async def join(self, which: str | bytes) -> Conference:
        """Joins a conference by its title or its id (bytes, or hexadecimal)."""
        conference_id = which if isinstance(which, bytes) else await self._find(which)
        await self.client.ask("join", wire.JoinRequest(user=self._key, conference_id=conference_id))
        return await self.attach(conference_id)

    async def send_only(self, which: str | bytes, group: str = "audio") -> SendOnly:
        """Sends to a group of an announced session without joining it, or its conference: nothing is heard. Goes on
        until `SendOnly.end`, also after this process."""
        conference_id = which if isinstance(which, bytes) else await self._find(which)
        asked = wire.SendOnlyRequest(user=self._key, conference_id=conference_id, group=group)
        response: wire.SendOnlyResponse = await self.client.ask("send-only", asked)
        path = Path(response.socket_path)
        return SendOnly(self.client, conference_id, response.group, path, response.sender_id)

    async def end_send_only(self, which: str | bytes, group: str = "audio") -> None:
        """Ends what `send_only` began, whichever process it was in."""
        conference_id = which if isinstance(which, bytes) else await self._find(which)
        await self.client.ask("end-send-only", wire.EndSendOnlyRequest(conference_id=conference_id, group=group))

    async def attach(self, conference_id: bytes) -> Conference:
        """A conference that this user is in already, from this or another process."""
        conference = Conference(self.client, conference_id, self.user)
        self._conferences[conference_id] = conference
        await conference.attach()
        return conference

    async def _find(self, name: str) -> bytes:
        called = [
            session
            for session in await self.sessions()
            if session.conference_id and (session.title == name or session.conference_id.hex().startswith(name.lower()))
        ]
        verified = [session for session in called if session.verified]  # anybody can announce another of that title
        found = [session.conference_id for session in verified or called]
        if len(set(found)) != 1:
            count = "no session" if not found else "more than one session"
            sentence = f"{count} is called '{name}'; `mcsa sessions` lists what was heard, with ids"
            raise Refused("unknown-session", "directory", sentence)
        return found[0]

    async def _await_end(self, client: CsmClient) -> None:
        await client.closed.wait()
        self._events.put_nowait(client.gone())  # after what came before

    async def _deliver(self) -> None:
        while True:
            event = await self._events.get()
            if isinstance(event, Refused):
                for ended in self._conferences.values():
                    ended.end(event)
                return
            conference_id = (
                event.state.conference_id if isinstance(event, wire.ConferenceChanged) else event.conference_id
            )
            conference = self._conferences.get(conference_id)
            if conference is not None:
                await conference.take(event)


def connect(
    *, host: str | None = None, user: str | Path | None = None, passphrase: str = "", socket: Path | None = None
) -> Connection:
    """A connection to this machine's CSM: by host name, where a domain runs several here (`mcsa up`), or by socket."""
    return Connection(host, user, passphrase, socket)
