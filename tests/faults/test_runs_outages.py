"""PostgreSQL stopped and started again in the middle of runs: each ends as it would have."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from omninode_bridge import Bridge, RunUnknown
from omninode_bridge.infrastructure.postgres import migrations
from tests.bridges import until
from tests.faults.runner import bank, order, steps
from tests.faults.server import StoppableServer

if TYPE_CHECKING:
    from pathlib import Path

    from omninode_bridge import RunOutcome

CLIENTS: Final = 10


class Runs:
    """Clients that start run after run, and ask again for one that is unknown."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._stopping = False
        self._numbers = 0
        self.ended: dict[int, RunOutcome] = {}

    async def work(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(CLIENTS)))

    def stop(self) -> None:
        self._stopping = True

    async def _client(self) -> None:
        contract: Any = steps()
        while not self._stopping:
            number, self._numbers = self._numbers, self._numbers + 1
            while number not in self.ended:
                try:
                    self.ended[number] = await self._bridge.run(
                        contract, order(number), workflow_id=str(number), timeout=2
                    )
                except RunUnknown:
                    continue


@pytest.mark.timeout(180)
async def test_a_server_that_crashes_in_the_middle_of_runs(server_folder: Path) -> None:
    folder = server_folder / "bank"
    folder.mkdir()
    async with StoppableServer(server_folder / "data") as server:
        await migrations.upgrade({"dsn": server.url})
        async with Bridge.open(bank(folder), database_url=server.url) as bridge:
            runs = Runs(bridge)
            working = asyncio.create_task(runs.work())
            stops: tuple[Literal["fast", "immediate"], ...] = ("fast", "immediate")
            for how in stops:
                await ends_more(runs, 20)
                await server.stop(how)
                await server.start()
            await ends_more(runs, 20)
            runs.stop()
            await working
            await bridge.settled()
            for number, outcome in runs.ended.items():
                expected = "COMPLETED" if number % 3 else "COMPENSATED"
                assert (number, outcome.status) == (number, expected)
                assert (folder / f"{number}-charge.refunded").exists() == (number % 3 == 0)
            assert (await bridge.verify()).mismatches == []


async def ends_more(runs: Runs, many: int) -> None:
    """Wait until so many runs more have ended."""
    goal = len(runs.ended) + many
    await until(lambda: len(runs.ended) >= goal, f"{goal} runs end", 60)
