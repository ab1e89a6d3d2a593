"""A rebuild leaves the projection as it should be, and as it was to those who use it (R7)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from omninode_bridge import Bridge
from omninode_bridge.core.errors import DatabaseRefused, DatabaseUnavailable
from omninode_bridge.services import projection_rebuild
from tests.bridges import app, fetch

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


@pytest.fixture
async def role(database_url: str) -> AsyncIterator[str]:
    """Yield the name of a role of this test alone, quoted."""
    name = f'"A reader {uuid4().hex}"'
    await fetch(database_url, f"CREATE ROLE {name}")
    yield name
    await fetch(database_url, f"DROP OWNED BY {name}")
    await fetch(database_url, f"DROP ROLE {name}")


async def grants(database_url: str) -> set[tuple[str, str, str | None]]:
    """Return who may do what with the projection: role, privilege, with grant option or not."""
    rows = await fetch(
        database_url,
        "SELECT grantee, privilege_type, is_grantable FROM information_schema.column_privileges"
        " WHERE table_name = 'workflow_projection'"
        " UNION SELECT grantee, privilege_type, is_grantable"
        " FROM information_schema.table_privileges WHERE table_name = 'workflow_projection'",
    )
    return {tuple(row) for row in rows}


async def test_who_may_read_the_projection_still_may(
    bridge: Bridge, database_url: str, role: str
) -> None:
    await fetch(database_url, f"GRANT SELECT ON workflow_projection TO {role} WITH GRANT OPTION")
    await fetch(database_url, "GRANT SELECT (tag), UPDATE (tag) ON workflow_projection TO PUBLIC")
    before = await grants(database_url)
    assert (role.strip('"'), "SELECT", "YES") in before
    assert ("PUBLIC", "UPDATE", "NO") in before
    await bridge.rebuild_projection()
    assert await grants(database_url) == before
    async with bridge._database.transaction() as connection:
        await connection.execute(f"SET LOCAL ROLE {role}")
        assert await connection.fetchval("SELECT count(*) FROM workflow_projection") == KEYS


async def test_a_rebuilt_projection_has_statistics(bridge: Bridge, database_url: str) -> None:
    await bridge.rebuild_projection()
    (table,) = await fetch(
        database_url, "SELECT reltuples FROM pg_class WHERE oid = 'workflow_projection'::regclass"
    )
    assert table["reltuples"] == KEYS
