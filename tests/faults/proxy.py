"""A proxy between a bridge and its server: it loses answers, cuts connections, or goes silent."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qs, quote, urlsplit

COMMIT: Final = b'"reducer_version"'
"""What only the arguments of a commit hold."""
READY: Final = b"Z\x00\x00\x00\x05"
"""ReadyForQuery: the server's last word on a call, after the transaction is durable."""
SOCKET: Final = ".s.PGSQL.5432"


class LossyProxy:
    """Listens on a Unix socket of its own and passes everything on, until told otherwise."""

    def __init__(self, url: str) -> None:
        """Stand before the server at `url`, which names the folder of its Unix socket."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        port = query.get("port", ["5432"])[0]
        self._server_socket = Path(query["host"][0]) / f".s.PGSQL.{port}"
        self._folder = Path(tempfile.mkdtemp(prefix="proxy-"))
        host = quote(str(self._folder), safe="")
        self.url = parts._replace(query=f"host={host}&port=5432").geturl()
        self.answers_lost = 0
        self._lose = False
        self.passes = asyncio.Event()
        self.passes.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        path = self._folder / SOCKET
        self._server = await asyncio.start_unix_server(self._accept, path)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Cut what is open and stop listening."""
        assert self._server is not None
        self._server.close()
        self.passes.set()
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        shutil.rmtree(self._folder)

    def lose_next_answer(self) -> None:
        """Cut the connection of the next commit once the server has said that it is durable."""
        self._lose = True

    def cut(self) -> None:
        """Cut every open connection; what the server is doing it goes on doing."""
        for writer in list(self._writers):
            writer.close()

    def go_silent(self) -> None:
        """Pass nothing on, as a network that is gone: no side hears that the other is away."""
        self.passes.clear()

    def speak(self) -> None:
        """Pass on again, first of all what came meanwhile."""
        self.passes.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.passes.wait()
        server_reader, server_writer = await asyncio.open_unix_connection(self._server_socket)
        connection = _Connection(self, writer, server_writer)
        self._writers |= {writer, server_writer}
        for pump in (
            connection.pump(reader, server_writer, from_client=True),
            connection.pump(server_reader, writer, from_client=False),
        ):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    def loses(self) -> bool:
        """Return whether the answer at hand is to be lost, which happens once."""
        lose, self._lose = self._lose, False
        self.answers_lost += lose
        return lose

    def forget(self, *writers: asyncio.StreamWriter) -> None:
        """These are closed."""
        self._writers.difference_update(writers)


class _Connection:
    """One client's connection to the server."""

    def __init__(
        self, proxy: LossyProxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._writers = (client, server)
        self._committing = False

    async def pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        """Pass on what comes, until either side closes or an answer is to be lost."""
        with suppress(OSError):
            while data := await reader.read(1 << 20):
                if from_client:
                    self._committing = self._committing or COMMIT in data
                elif self._committing and READY in data:
                    self._committing = False
                    if self._proxy.loses():
                        break
                await self._proxy.passes.wait()
                writer.write(data)
                await writer.drain()
        for each in self._writers:
            each.close()
        self._proxy.forget(*self._writers)
