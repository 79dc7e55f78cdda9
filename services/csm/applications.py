"""The CSM's socket for applications: requests in, answers and events out, each connection in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message

from mcsa.errors import Refused
from mcsa.shell.local_stream import LARGEST_MESSAGE, LocalStream, LocalStreamServer
from mcsa.subjects import APPLICATION_METHODS
from mcsa.telemetry import Span, Telemetry, parse_traceparent
from mcsa.v1.csm_pb2 import ApplicationFrame
from mcsa.v1.envelope_pb2 import Refusal
from services.csm.events import AnswerApplication, ApplicationAsked, ApplicationGone, TellApplication

QUEUED_AT_ONCE = 10_000  # frames for an application that doesn't read; then it is disconnected

VERBS = {method.request.DESCRIPTOR.full_name: (verb, method.request) for verb, method in APPLICATION_METHODS.items()}


class Application:
    """One connection."""

    def __init__(self, stream: LocalStream) -> None:
        self.stream = stream
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUED_AT_ONCE)
        self.spans: dict[int, Span] = {}

    def tell(self, frame: ApplicationFrame) -> None:
        """A frame, in order; one that doesn't read is given up."""
        try:
            self.queue.put_nowait(frame.SerializeToString())
        except asyncio.QueueFull:
            self.queue.get_nowait()
            self.queue.put_nowait(None)

    async def write(self) -> None:
        """Writes what is queued, until the end."""
        while (raw := await self.queue.get()) is not None:
            await self.stream.write(raw)


class Applications:
    """The server. `feed` gets the events."""

    def __init__(
        self, path: Path, feed: Callable[[Any], None], allowed_users: Collection[int], telemetry: Telemetry
    ) -> None:
        self._feed = feed
        self._telemetry = telemetry
        self._server = LocalStreamServer(path, self._serve, allowed_users)

    async def start(self) -> None:
        """Listens; `Refused` where it can't."""
        await self._server.start()

    async def close(self) -> None:
        """Ends all connections."""
        await self._server.close()

    def answer(self, effect: AnswerApplication) -> None:
        """An answer or a refusal."""
        frame = ApplicationFrame(request=effect.number)
        if effect.refusal is not None:
            refusal = effect.refusal
            frame.refusal.CopyFrom(Refusal(code=refusal.code, rule=refusal.rule, sentence=refusal.sentence))
        elif effect.message is not None:
            _put(frame, effect.message)
            if frame.ByteSize() > LARGEST_MESSAGE:  # a record of days, say: it is in a file
                sentence = f"the answer has {frame.ByteSize()} bytes, and at most {LARGEST_MESSAGE} go over this socket"
                frame = ApplicationFrame(request=effect.number)
                frame.refusal.CopyFrom(Refusal(code="too-long", rule="socket", sentence=sentence))
        assert isinstance(effect.connection, Application)
        effect.connection.tell(frame)
        span = effect.connection.spans.pop(effect.number, None)
        if span is not None:
            span.end(None if effect.refusal is None else effect.refusal.code)

    def tell(self, effect: TellApplication) -> None:
        """An event."""
        frame = ApplicationFrame()
        _put(frame, effect.message)
        assert isinstance(effect.connection, Application)
        effect.connection.tell(frame)

    async def _serve(self, stream: LocalStream) -> None:
        application = Application(stream)
        writer = asyncio.create_task(application.write())
        try:
            while (raw := await stream.read()) is not None:
                self._take(application, raw)
        finally:
            self._feed(ApplicationGone(application))
            for span in application.spans.values():
                span.end("gone")
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def _take(self, application: Application, raw: bytes) -> None:
        number = 0
        try:
            frame = ApplicationFrame.FromString(raw)
            number = frame.request
            verb, request = VERBS[frame.message_type]
            message = request.FromString(frame.payload)
        except (DecodeError, KeyError):
            sentence = "the request is none that this CSM knows; are application and CSM of the same version?"
            self.answer(AnswerApplication(application, number, refusal=Refused("malformed", "request", sentence)))
            return
        span = self._telemetry.span(f"csm.{verb}", parse_traceparent(frame.traceparent))
        application.spans[number] = span
        self._feed(ApplicationAsked(application, number, verb, message, span.traceparent))


def _put(frame: ApplicationFrame, message: Message) -> None:
    frame.message_type = message.DESCRIPTOR.full_name
    frame.payload = message.SerializeToString()
