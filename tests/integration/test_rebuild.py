"""A rebuild leaves the projection as it should be, whoever else rebuilds meanwhile (R7)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omninode_bridge import Bridge
from omninode_bridge.core.errors import DatabaseRefused, DatabaseUnavailable
from omninode_bridge.services import projection_rebuild
from tests.bridges import app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEYS = 2_000


@pytest.fixture
async def bridge(database_url: str) -> AsyncIterator[Bridge]:
    """Yield a bridge with a projection of `KEYS` keys."""
    async with Bridge.open(app, database_url=database_url) as bridge:
        await bridge.submit_many([(f"counter:{n}", "Counted", {}) for n in range(KEYS)])
        await bridge.settled()
        yield bridge


async def half_way(bridge: Bridge, rows: int, rebuild: asyncio.Task[int]) -> None:
    """Return when `rebuild` has filled `rows` rows of the next generation, or is done."""
    found = -1
    while found < rows and not rebuild.done():
        try:
            found = await bridge._database.fetchval("SELECT count(*) FROM workflow_projection_next")
        except DatabaseRefused:  # it is not there, or not any more
            await asyncio.sleep(0)


@pytest.mark.parametrize("rows", [0, 1, 200, KEYS // 2, KEYS - 100])
async def test_of_two_rebuilds_at_once_the_later_one_wins(
    bridge: Bridge, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection_rebuild, "STEP_ENTRIES", 20)
    monkeypatch.setattr(projection_rebuild, "NEAR_ENTRIES", 0)
    earlier = asyncio.create_task(bridge.rebuild_projection())
    await half_way(bridge, rows, earlier)
    later = asyncio.create_task(bridge.rebuild_projection())
    results = await asyncio.gather(earlier, later, return_exceptions=True)
    assert results[1] == KEYS
    if results[0] != KEYS:  # it was not through when the later one began
        assert isinstance(results[0], DatabaseUnavailable)
        assert "another rebuild has begun" in str(results[0])
    assert len(await bridge.list(limit=KEYS + 1)) == KEYS
    assert (await bridge.verify()).mismatches == []


async def test_of_many_rebuilds_begun_at_once_one_succeeds(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection_rebuild, "STEP_ENTRIES", 20)
    results = await asyncio.gather(
        *(bridge.rebuild_projection() for _ in range(4)), return_exceptions=True
    )
    assert KEYS in results
    for result in results:
        assert result == KEYS or isinstance(result, DatabaseUnavailable)
    assert len(await bridge.list(limit=KEYS + 1)) == KEYS
    assert (await bridge.verify()).mismatches == []
