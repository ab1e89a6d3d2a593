"""Cleaning beside a busy bridge: no commit is held up by it. Minutes; asked for by `-m soak`.

The load asks for 10,000 actions a second, and prints how many the machine has done.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Final

import asyncpg
import pytest
from benchmarks.cleaning import EXPIRED, Seen, Watch

from omninode_bridge import Bridge, Observation, OutcomesForgotten, SegmentsDropped
from omninode_bridge.bench import app
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from omninode_bridge.services.action_dedup import ActionDedupService
from omninode_bridge.services.cleaner import Cleaner
from omninode_bridge.services.event_log import EventLogService
from tests.servers import until_stopped

if TYPE_CHECKING:
    from pathlib import Path

RATE: Final = 10_000
TICK_S: Final = 0.02
ROUNDS: Final = 12
ROWS: Final = 200_000
HELD_UP_S_MAX: Final = 0.050
COMMITS_MIN: Final = 500
KEYS: Final = 10_000


class Load:
    """Asks at a steady rate: half of it by the inbox, half by the log, whose segments then go."""

    def __init__(self, bridge: Bridge) -> None:
        """Begin with nothing asked."""
        self._bridge = bridge
        self.asked = 0
        self.ended = False

    async def run(self) -> None:
        """Ask until `ended`; when the bridge pushes back, later."""
        began, behind = perf_counter(), asyncio.Semaphore(20)
        async with asyncio.TaskGroup() as group:
            for tick in count(1):
                if self.ended:
                    return
                await behind.acquire()
                task = group.create_task(self._ask(int(RATE * TICK_S)))
                task.add_done_callback(lambda _: behind.release())
                await asyncio.sleep(max(0.0, began + tick * TICK_S - perf_counter()))

    async def _ask(self, actions: int) -> None:
        asks = [(self._key(), "Counted", {"amount": 3}) for _ in range(actions)]
        half = actions // 2
        await asyncio.gather(
            self._bridge.submit_many(asks[:half], timeout=60),
            *(self._bridge.enqueue(*ask) for ask in asks[half:]),
        )
        self.asked += actions

    def _key(self) -> str:
        return f"bench:{random.randrange(KEYS)}"  # noqa: S311 - no secret


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_cleaning_holds_no_commit_of_a_busy_bridge_up(
    server_folder: Path,
) -> None:
    data_dir, watch = server_folder / "data", Watch()
    alone, beside = Seen(), Seen()
    forgotten: list[Observation] = []
    async with AsyncExitStack() as held:
        address = await held.enter_async_context(EmbeddedServer(data_dir).use())
        bridge = await held.enter_async_context(
            Bridge.open(app, data_dir=data_dir, partitions=1, observe=watch.observe)
        )
        database = await held.enter_async_context(
            Database(address.connect_arguments, connections_max=2)
        )
        looking, filling = [await asyncpg.connect(**address.connect_arguments) for _ in range(2)]
        cleaner = Cleaner(
            range(bridge.partitions),
            outcomes=ActionDedupService(database),
            segments=EventLogService(database),
            observe=forgotten.append,
        )
        load = Load(bridge)
        asking = asyncio.create_task(load.run())
        look = asyncio.create_task(watch.look(looking))
        measured_s, measured = 0.0, 0
        for _ in range(ROUNDS):
            await filling.execute(EXPIRED, ROWS)
            watch.seen, began, asked = beside, perf_counter(), load.asked
            await cleaner.clean()
            took_s = perf_counter() - began
            watch.seen = alone
            await asyncio.sleep(took_s)
            watch.seen = None
            measured_s += perf_counter() - began
            measured += load.asked - asked
        load.ended = True
        await asking
        look.cancel()
        with suppress(asyncio.CancelledError):
            await look
        await looking.close()
        await filling.close()
        await bridge.settled(timeout=300)
        assert (await bridge.verify()).mismatches == []
    await until_stopped(data_dir)
    # Said rather than judged: how much a machine can do is its own affair.
    print(f"{measured / measured_s:,.0f} actions/s\nalone: {alone.told()}")  # noqa: T201
    print(f"beside cleaning: {beside.told()}")  # noqa: T201
    dropped = sum(fact.segments for fact in forgotten if isinstance(fact, SegmentsDropped))
    print(f"{dropped} segments dropped")  # noqa: T201
    rows = sum(fact.rows for fact in forgotten if isinstance(fact, OutcomesForgotten))
    assert rows > ROUNDS * ROWS / 2, "the bridge's own cleaner was there first: no test"
    assert min(len(alone.commits_s), len(beside.commits_s)) > COMMITS_MIN, "no load: no test"
    assert max(beside.waits_s, default=0.0) <= HELD_UP_S_MAX
    assert p99(beside) <= p99(alone) + HELD_UP_S_MAX


def p99(seen: Seen) -> float:
    """Return what 99 of 100 commits took at most, in seconds."""
    return sorted(seen.commits_s)[int(len(seen.commits_s) * 0.99)]
