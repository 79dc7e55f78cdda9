"""The application's side of the Unix socket to its CSM: requests answered, events told. See proto/mcsa/v1/csm.proto."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message

from mcsa.errors import Refused, Rejected
from mcsa.shell.local_stream import LocalStream, connect_stream
from mcsa.shell.telemetry import current_traceparent
from mcsa.subjects import APPLICATION_METHODS
from mcsa.v1 import csm_pb2 as wire

EVENTS: dict[str, type[Message]] = {
    message.DESCRIPTOR.full_name: message
    for message in (wire.ConferenceChanged, wire.KeyChanged, wire.ProcessChanged, wire.MessageArrived)
}
ANSWER_WITHIN = 30.0  # seconds


class CsmClient:
    """One connection. Requests may be made side by side; events come in order to `on_event`."""

    def __init__(self, stream: LocalStream, on_event: Callable[[Any], None]) -> None:
        self._stream = stream
        self._on_event = on_event
        self._next = 1
        self._waiting: dict[int, tuple[str, asyncio.Future[Any]]] = {}
        self._reader = asyncio.create_task(self._read())
        self.closed = asyncio.Event()

    @classmethod
    async def connect(cls, path: Path, on_event: Callable[[Any], None] = lambda event: None) -> CsmClient:
        """To the CSM that serves `path`; `Refused` with the way out where none does."""
        return cls(await connect_stream(path), on_event)

    async def ask(self, verb: str, message: Message, *, within: float = ANSWER_WITHIN, traceparent: str = "") -> Any:
        """The answer; raises `Refused` where the CSM refuses, does not answer in time, or has gone.

        The request is part of the application's trace: of `traceparent`, or of OpenTelemetry's current span.
        """
        number, self._next = self._next, self._next + 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (verb, answer)
        frame = wire.ApplicationFrame(
            request=number,
            message_type=message.DESCRIPTOR.full_name,
            payload=message.SerializeToString(),
            traceparent=traceparent or current_traceparent() or "",
        )
        try:
            await self._stream.write(frame.SerializeToString())
            return await asyncio.wait_for(answer, within)
        except TimeoutError:
            sentence = f"the CSM did not answer '{verb}' within {within:g} s; is its MSM running? (mcsa status)"
            raise Refused("no-answer", "deadline", sentence) from None
        except ConnectionError:
            raise self.gone() from None
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """Ends the connection; the conferences go on."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._stream.close()

    async def _read(self) -> None:
        try:
            while (raw := await self._stream.read()) is not None:
                self._take(wire.ApplicationFrame.FromString(raw))
        except (Rejected, DecodeError, ConnectionError):
            pass  # a CSM that was killed in the middle of a message; the same as its end
        finally:
            self.closed.set()
            for _, answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(self.gone())

    def _take(self, frame: wire.ApplicationFrame) -> None:
        if frame.request == 0:
            event = EVENTS.get(frame.message_type)
            if event is not None:
                self._on_event(event.FromString(frame.payload))
            return
        verb, answer = self._waiting.get(frame.request, ("", None))
        if answer is None or answer.done():
            return
        if frame.HasField("refusal"):
            refusal = frame.refusal
            answer.set_exception(Refused(refusal.code, refusal.rule, refusal.sentence))
        else:
            answer.set_result(APPLICATION_METHODS[verb].response.FromString(frame.payload))

    @staticmethod
    def gone() -> Refused:
        """What is refused from then on."""
        return Refused("csm-gone", "connection", "the CSM has ended; when it is back, connect again (mcsa status)")
