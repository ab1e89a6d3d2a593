"""PostgreSQL stopped, connections cut, answers lost: nothing lost, nothing doubled, it goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID, uuid4

import pytest

from omninode_bridge import Bridge, LoopStumbled, Observation, OutcomeUnknown
from omninode_bridge.infrastructure.postgres import migrations
from tests.bridges import app, fetch, until
from tests.faults.proxy import LossyProxy
from tests.faults.server import StoppableServer
from tests.integration.processes import is_alive, postmaster
from tests.servers import until_stopped

if TYPE_CHECKING:
    from pathlib import Path

SLOW_COMMITS: Final = """
    CREATE FUNCTION slow() RETURNS TRIGGER LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_sleep(1);
        RETURN NULL;
    END $$
"""
SLEEPING: Final = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"

CLIENTS: Final = 40
KEYS: Final = 7


class Load:
    """Clients that ask under ids of their own, and ask again under the same id when unknown."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._stop = asyncio.Event()
        self.answered: dict[UUID, tuple[str, int]] = {}

    async def run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))

    def stop(self) -> None:
        self._stop.set()

    async def _client(self, number: int) -> None:
        key = f"counter:{number % KEYS}"
        while not self._stop.is_set():
            action_id = uuid4()
            while action_id not in self.answered:
                try:
                    outcome = await self._bridge.submit(
                        key, "Counted", {"amount": 1}, action_id=action_id, timeout=1
                    )
                except OutcomeUnknown:
                    continue
                self.answered[action_id] = (key, outcome.committed().version)

    async def check(self) -> None:
        """Every answered action is in the history once, at the version that was told."""
        verification = await self._bridge.verify()
        assert verification.mismatches == []
        assert verification.actions == len(self.answered) > CLIENTS
        versions: dict[str, list[int]] = {}
        for key, version in self.answered.values():
            versions.setdefault(key, []).append(version)
        for key, told in versions.items():
            assert sorted(told) == list(range(1, len(told) + 1)), f"{key}: a gap or a double"


def is_ended(pid: int) -> bool:
    """Say whether a process has ended."""
    return not is_alive(pid)


async def answers_more(load: Load, more: int) -> None:
    """Wait until the load has had `more` answers than now."""
    enough = len(load.answered) + more
    await until(lambda: len(load.answered) >= enough, "more answers", wait_s=60)


@pytest.mark.timeout(180)
async def test_the_server_stopped_and_started_in_the_middle_of_a_load(server_folder: Path) -> None:
    async with StoppableServer(server_folder / "data") as server:
        await migrations.upgrade({"dsn": server.url})
        async with Bridge.open(app, database_url=server.url) as bridge:
            load = Load(bridge)
            running = asyncio.create_task(load.run())
            stops: tuple[Literal["fast", "immediate"], ...] = ("fast", "immediate", "immediate")
            for how in stops:
                await answers_more(load, 200)
                await server.stop(how)
                await server.start()
            await answers_more(load, 200)
            load.stop()
            await running
            await bridge.settled()
            await load.check()


@pytest.mark.timeout(180)
async def test_a_timer_that_is_set_in_an_outage_is_set_when_it_is_over(server_folder: Path) -> None:
    async with StoppableServer(server_folder / "data") as server:
        await migrations.upgrade({"dsn": server.url})
        async with Bridge.open(app, database_url=server.url) as bridge:
            await bridge.submit("counter:1", "Counted", {"amount": 1})
            await server.stop("immediate")
            far = datetime.now(UTC) + timedelta(days=1)
            for due_at in (None, far):  # who asks in an outage is told the same, and as soon
                began = monotonic()
                with pytest.raises(OutcomeUnknown):
                    await bridge.submit(
                        "counter:1", "Counted", {"amount": 1}, due_at=due_at, timeout=0.3
                    )
                assert monotonic() - began < 20, "it need not wait until then"
            soon = datetime.now(UTC) + timedelta(seconds=1)
            asking = asyncio.create_task(
                bridge.submit("counter:2", "Counted", {"amount": 1}, due_at=soon, timeout=60)
            )
            await asyncio.sleep(0)
            await server.start()
            assert (await asking).committed().version == 1


@pytest.mark.timeout(180)
async def test_the_embedded_server_stopped_from_outside_in_the_middle_of_a_load(
    server_folder: Path,
) -> None:
    data_dir = server_folder / "data"
    async with Bridge.open(app, data_dir=data_dir) as bridge:
        load = Load(bridge)
        running = asyncio.create_task(load.run())
        for how in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            await answers_more(load, 200)
            pid = postmaster(data_dir)
            os.kill(pid, how)
            await until(partial(is_ended, pid), "the server's end", wait_s=60)
        await answers_more(load, 200)
        load.stop()
        await running
        await bridge.settled()
        await load.check()
    await until_stopped(data_dir)


async def test_connections_cut_by_the_server(database_url: str) -> None:
    seen: list[Observation] = []
    async with Bridge.open(app, database_url=database_url, observe=seen.append) as bridge:
        load = Load(bridge)
        running = asyncio.create_task(load.run())
        for _ in range(5):
            await answers_more(load, 100)
            await fetch(
                database_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
        await answers_more(load, 100)
        load.stop()
        await running
        await bridge.settled()
        await load.check()
    assert any(isinstance(observation, LoopStumbled) for observation in seen)


async def test_an_answer_lost_after_the_commit_doubles_nothing(database_url: str) -> None:
    async with (
        LossyProxy(database_url) as proxy,
        Bridge.open(app, database_url=proxy.url, partitions=1) as bridge,
    ):
        await bridge.submit("counter:1", "Counted", {"amount": 1})
        proxy.lose_next_answer()
        outcome = await bridge.submit("counter:1", "Counted", {"amount": 1}, timeout=20)
        assert proxy.answers_lost == 1
        assert outcome.committed().version == 2
        state = await bridge.state("counter:1")
        assert state is not None
        assert state.version == 2


async def test_an_answer_lost_while_the_backend_still_runs_doubles_nothing(
    database_url: str,
) -> None:
    """The old backend commits only after we have lost it: we wait for it under the lock."""
    async with (
        LossyProxy(database_url) as proxy,
        Bridge.open(app, database_url=proxy.url, partitions=1) as bridge,
    ):
        await bridge.submit("counter:1", "Counted", {"amount": 1})
        await fetch(database_url, SLOW_COMMITS)
        await fetch(
            database_url,
            "CREATE TRIGGER slow AFTER INSERT ON action_dedup_log EXECUTE FUNCTION slow()",
        )
        asked = asyncio.create_task(
            bridge.submit("counter:1", "Counted", {"amount": 1}, timeout=20)
        )
        async with asyncio.timeout(20):
            while not await fetch(database_url, SLEEPING):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.01)
        proxy.cut()
        outcome = await asked
        assert outcome.committed().version == 2
        history = await bridge.history("counter:1")
        assert [line["version"] for line in history] == [1, 2]
