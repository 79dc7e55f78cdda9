"""A line to the broker that can go bad in one direction."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Line:
    """Carries a TCP connection to a port. `to_server` and `to_client`: set to False, what is sent that way is lost, for
    the connections of now; later ones are as good as new."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._generation = 0
        self._bad: dict[tuple[int, str], bool] = {}

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def lose(self, way: str) -> None:
        """From now on, what goes "to-server" or "to-client" on this connection doesn't arrive."""
        self._bad[self._generation, way] = True

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, at: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._generation += 1
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, up_writer, (self._generation, "to-server")))
                both.create_task(self._carry(up_reader, writer, (self._generation, "to-client")))
        finally:
            writer.close()
            up_writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: tuple[int, str]) -> None:
        try:
            while content := await reader.read(65536):
                if way not in self._bad:
                    writer.write(content)
                    await writer.drain()
        except OSError:
            pass
        writer.close()
