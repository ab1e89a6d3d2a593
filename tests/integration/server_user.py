"""A program that uses the server of a data folder until its standard input ends, or writes alone.

    python server_user.py use DATA_FOLDER
    python server_user.py write DATA_FOLDER

It says `in ADDRESS` when it is in, and `waiting for PROCESS` when another writer is in its way.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer, EmbeddedServerError


def say(words: str) -> None:
    """Write a line at once."""
    os.write(1, f"{words}\n".encode())


async def standard_input_ends() -> None:
    """Wait for the end of standard input, without a thread that a signal could not end."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await reader.read()


async def main() -> None:
    """Do as the command line says."""
    mode, folder = sys.argv[1:]
    server = EmbeddedServer(Path(folder))
    try:
        if mode == "use":
            async with server.use() as address:
                say(f"in {address.url}")
                await standard_input_ends()
        else:
            async with server.writing(lambda: say(f"waiting for {server.writer()}")):
                say(f"in {folder}")
                await standard_input_ends()
    except EmbeddedServerError as error:
        say(f"{type(error).__name__}: {error}")


asyncio.run(main())
