"""What crossing costs: one process alone, then several that share its partitions.

Measured one after the other, with as many clients in all: one process; several of which each asks
for keys it owns; several of which each asks half of the time for keys of the others.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge import BridgeError
from omninode_bridge.bench.sharing import Shared

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Sequence

PROGRAM: Final = "omninode_bridge.bench.member"
ANSWER_WAIT_S: Final = 60.0
LOOK_S: Final = 0.1
CROSSING: Final = 0.5


class ProcessEnded(BridgeError):
    """One of the processes under load has ended, or says nothing."""


@dataclass(frozen=True, slots=True)
class SharedFigures:
    """One comparison. Latencies in milliseconds, of the slowest process."""

    mode: str
    processes: int
    clients: int
    seconds: float
    alone_per_s: float
    local_per_s: float
    crossing_per_s: float
    local_ratio: float
    crossing_ratio: float
    alone_p50_ms: float
    local_p50_ms: float
    crossing_p50_ms: float
    crossing_p99_ms: float
    not_committed: int
    pgbench_tps: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


class Member:
    """A process under load."""

    def __init__(self, process: Process) -> None:
        """Talk to `process`."""
        self._process = process

    async def owned(self) -> int:
        """Return how many partitions it owns."""
        return len(await self._asked("owned", ANSWER_WAIT_S))

    async def measured(self, crossing: float, seconds: float) -> Shared:
        """Have it measure for `seconds`."""
        return Shared(**await self._asked(f"{crossing}", seconds + ANSWER_WAIT_S))

    async def _asked(self, line: str, wait_s: float) -> Any:  # noqa: ANN401 - JSON
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n".encode())
        try:
            async with asyncio.timeout(wait_s):
                return json.loads(await self._process.stdout.readline())
        except (TimeoutError, ValueError) as error:
            message = f"a process under load said nothing to {line!r}: what it says stands above"
            raise ProcessEnded(message) from error


class Processes:
    """So many processes, compared with one."""

    def __init__(self, processes: int, clients: int, seconds: float) -> None:
        """Ask with `clients` in all, for `seconds` each time."""
        self.processes = processes
        self.clients = clients
        self.seconds = seconds

    async def run(
        self, database_url: str, partitions: int, pgbench_tps: float | None
    ) -> SharedFigures:
        """Measure three times and return the figures.

        Raises:
            ProcessEnded: one of the processes did not last.
        """
        async with self._serving(database_url, partitions, 1) as members:
            alone = await self._measured(members, 0)
        async with self._serving(database_url, partitions, self.processes) as members:
            local = await self._measured(members, 0)
            crossing = await self._measured(members, CROSSING)
        rates = [sum(each.actions_per_s for each in found) for found in (alone, local, crossing)]
        return SharedFigures(
            mode="spread",
            processes=self.processes,
            clients=self.clients,
            seconds=self.seconds,
            alone_per_s=round(rates[0], 1),
            local_per_s=round(rates[1], 1),
            crossing_per_s=round(rates[2], 1),
            local_ratio=round(rates[1] / max(rates[0], 1), 2),
            crossing_ratio=round(rates[2] / max(rates[0], 1), 2),
            alone_p50_ms=max(each.local_p50_ms for each in alone),
            local_p50_ms=max(each.local_p50_ms for each in local),
            crossing_p50_ms=max(each.crossing_p50_ms for each in crossing),
            crossing_p99_ms=max(each.crossing_p99_ms for each in crossing),
            not_committed=sum(each.not_committed for each in (*alone, *local, *crossing)),
            pgbench_tps=pgbench_tps,
        )

    async def _measured(self, members: Sequence[Member], crossing: float) -> list[Shared]:
        return await asyncio.gather(*(each.measured(crossing, self.seconds) for each in members))

    @asynccontextmanager
    async def _serving(
        self, database_url: str, partitions: int, processes: int
    ) -> AsyncIterator[list[Member]]:
        """Run so many processes; yield when they own all partitions in equal shares."""
        clients = str(max(1, self.clients // processes))
        command = (sys.executable, "-m", PROGRAM, database_url, clients, str(self.seconds))
        async with AsyncExitStack() as stack:
            members = [
                Member(await stack.enter_async_context(_process(*command)))
                for _ in range(processes)
            ]
            async with asyncio.timeout(ANSWER_WAIT_S):
                while True:
                    owned = await asyncio.gather(*(each.owned() for each in members))
                    if sum(owned) == partitions and max(owned) - min(owned) <= 1:
                        break
                    await asyncio.sleep(LOOK_S)
            yield members


@asynccontextmanager
async def _process(*command: str) -> AsyncIterator[Process]:
    """Run a process that ends with its standard input; killed when it does not."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(ANSWER_WAIT_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
