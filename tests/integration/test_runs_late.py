"""A step out of time is unknown, until its key has decided: what committed late is undone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from omninode_bridge import Bridge
from omninode_bridge.core.partition import partition_of
from tests.integration.shop import contract, reserve, shop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omninode_bridge import RunOutcome

ORDER: Final = {"sku": "tea", "quantity": 2}
PARTITIONS: Final = 4
STOCK_AT: Final = partition_of("stock:tea", PARTITIONS)
ELSEWHERE: Final = next(
    str(number) for number in count() if partition_of(f"run:{number}", PARTITIONS) != STOCK_AT
)
"""A workflow id whose run is on another partition than the stock."""


@pytest.fixture
async def bridge(database_url: str) -> AsyncIterator[Bridge]:
    async with Bridge.open(shop(), database_url=database_url, partitions=PARTITIONS) as bridge:
        yield bridge


@asynccontextmanager
async def stuck(database_url: str, partition: int) -> AsyncIterator[None]:
    """Let nobody commit on a partition for the length of the block."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT FROM event_log_partitions WHERE partition = $1 FOR UPDATE", partition
            )
            yield
    finally:
        await connection.close()


async def until(bridge: Bridge, *steps: str, attempts: int = 1) -> RunOutcome:
    """Wait until the first steps have these statuses, and the first one so many attempts."""
    async with asyncio.timeout(20):
        while True:
            found = await bridge.run_outcome(ELSEWHERE)
            if found is not None and found.steps[0].attempts == attempts:
                reached = tuple(step.status for step in found.steps[: len(steps)])
                if reached == steps:
                    return found
            await asyncio.sleep(0.01)


def start(bridge: Bridge, *steps: dict[str, Any]) -> asyncio.Task[RunOutcome]:
    """Start a run on another partition than the stock's."""
    return asyncio.create_task(bridge.run(contract(*steps), ORDER, workflow_id=ELSEWHERE))


async def test_a_step_out_of_time_that_committed_late_is_undone(
    bridge: Bridge, database_url: str
) -> None:
    async with stuck(database_url, STOCK_AT):
        run = start(bridge, reserve(timeout_ms=100))
        found = await until(bridge, "UNKNOWN")
        assert (found.status, found.steps[0].reason) == ("COMPENSATING", "timeout")
    outcome = await run
    assert outcome.status == "COMPENSATED"
    assert outcome.steps[0].status == "UNDONE"
    types = [line["action"]["type"] for line in await bridge.history("stock:tea")]
    assert types == ["Reserved", "Released"]
    state = await bridge.state("stock:tea")
    assert state is not None
    assert state.state == {"left": 100, "held": {}}


async def test_an_optional_step_out_of_time_holds_nobody_up_and_its_end_is_awaited(
    bridge: Bridge, database_url: str
) -> None:
    elsewhere = next(
        f"{number}" for number in count() if partition_of(f"stock:{number}", 4) != STOCK_AT
    )
    last = reserve(depends_on=["reserve"], undo="none") | {"name": "last"}
    last["action"] = last["action"] | {"key": f"stock:{elsewhere}"}
    async with stuck(database_url, STOCK_AT):
        run = start(bridge, reserve(timeout_ms=100, on_failure="continue"), last)
        found = await until(bridge, "UNKNOWN", "DONE")
        assert found.status == "RUNNING"
    outcome = await run
    assert outcome.status == "COMPLETED"
    assert [step.status for step in outcome.steps] == ["LATE", "DONE"]


async def test_with_attempts_left_a_late_commit_is_a_commit_and_nothing_happens_twice(
    bridge: Bridge, database_url: str
) -> None:
    async with stuck(database_url, STOCK_AT):
        run = start(bridge, reserve(timeout_ms=100, retry={"attempts": 5}))
        await until(bridge, "TIMED_OUT")
    outcome = await run
    assert (outcome.status, outcome.steps[0].attempts) == ("COMPLETED", 1)
    types = [line["action"]["type"] for line in await bridge.history("stock:tea")]
    assert types == ["Reserved"]


async def test_a_retry_that_is_not_due_yet_is_cancelled_with_its_run(bridge: Bridge) -> None:
    await bridge.submit("stock:tea", "Reserved", {"order": "other", "quantity": 100})
    retry = {"attempts": 2, "base_ms": 3_600_000, "cap_ms": 3_600_000, "reasons": ["rejected"]}
    run = start(bridge, reserve(retry=retry))
    await until(bridge, "ASKED", attempts=2)
    (await bridge.cancel_run(ELSEWHERE)).committed()
    outcome = await run
    assert (outcome.status, outcome.steps[0].status) == ("COMPENSATED", "CANCELLED")
