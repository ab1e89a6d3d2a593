"""Processes that do one role each, as a person starts them: `omninode-bridge run --role ...`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from tests.integration.kafka.traded import FOLDER
from tests.programs import PROGRAM

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from pathlib import Path

    from omninode_bridge import KafkaPlace

READY_WAIT_S: Final = 60.0
END_WAIT_S: Final = 20.0
SERVED: Final = "tests.integration.kafka.traded:app"


@dataclass
class RoleProcess:
    """A process, and how it was started."""

    arguments: tuple[str, ...]
    process: Process


class RoleProcesses:
    """Processes on one database and one Kafka; those that still run at the end are killed."""

    def __init__(self, database_url: str, place: KafkaPlace, folder: Path) -> None:
        """Start none yet; what is done in the world stands in `folder`."""
        self._environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMNINODE_DATABASE_URL": database_url,
            "OMNINODE_KAFKA_BOOTSTRAP": place.bootstrap,
            "OMNINODE_KAFKA_PREFIX": place.prefix,
            FOLDER: str(folder),
        }
        self.running: list[RoleProcess] = []
        self._starting: list[asyncio.Task[None]] = []
        self.kills = 0

    async def __aenter__(self) -> Self:
        """Return the processes."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Kill those that still run."""
        await asyncio.gather(*self._starting, return_exceptions=True)
        for each in self.running:
            if each.process.returncode is None:
                each.process.kill()
            await each.process.wait()

    async def start_all(self, *roles: str) -> None:
        """Start a process for each, all at once; return when all are ready."""
        self.running += await asyncio.gather(*(self._start(*each.split()) for each in roles))

    async def stop_and_start(self, one: RoleProcess) -> None:
        """Stop a process as an operator does, and start another in its place when it has ended."""
        one.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(END_WAIT_S):
            status = await one.process.wait()
        assert status == 130, f"{one.arguments} ended with {status}"
        await self._again(one)

    async def kill(self, one: RoleProcess) -> None:
        """Kill a process; begin to start another in its place (`all_ready`)."""
        one.process.kill()
        self.kills += 1
        status = await one.process.wait()
        assert status == -signal.SIGKILL, f"{one.arguments} had ended by itself, with {status}"
        self._starting.append(asyncio.create_task(self._again(one)))

    async def all_ready(self) -> None:
        """Return when those that were begun to be started are ready."""
        await asyncio.gather(*self._starting)
        self._starting.clear()

    async def _again(self, one: RoleProcess) -> None:
        self.running.remove(one)
        self.running.append(await self._start(*one.arguments))

    async def _start(self, *arguments: str) -> RoleProcess:
        """Start a process, as a supervisor does: again when it ends because Kafka is away."""
        async with asyncio.timeout(READY_WAIT_S):
            while True:
                process = await asyncio.create_subprocess_exec(
                    str(PROGRAM),
                    *("run", "--app", SERVED, "--json", "--role", *arguments),
                    stdout=asyncio.subprocess.PIPE,
                    env=self._environment,
                )
                assert process.stdout is not None
                if b"ready" in await process.stdout.readline():
                    return RoleProcess(arguments, process)
                await process.wait()
