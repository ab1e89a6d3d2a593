"""Builds the projection anew, from the log, while reads and commits go on (R7).

A new generation is filled beside the one that is read, in short transactions; when it has all but
caught up, the rest is filled and the two are swapped, at the watermarks of that moment.

Rule 1: it reads the projections that stand in the log; nothing is folded, no effect is fired.
Rule 2: died half way, it leaves a table that nobody reads and the next rebuild drops.
Rule 3: the later of two rebuilds wins. Each step asks first whether the next generation still is
        the one that this rebuild made, and stops if not: it knows only of its own what is filled.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.errors import DatabaseUnavailable
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    import asyncpg

    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "projection_rebuild.sql")

STEP_ENTRIES: Final = 20_000
NEAR_ENTRIES: Final = 2_000
ROUNDS_MAX: Final = 20


class ProjectionRebuildService:
    """Rebuilds `workflow_projection`; of several at once the last one does."""

    def __init__(self, database: Database) -> None:
        """Work through `database`."""
        self._database = database

    async def rebuild(self) -> int:
        """Rebuild and swap; return how many keys the projection shows then.

        Raises:
            DatabaseUnavailable: another rebuild has begun, which goes on; or somebody reads the
                projection for so long that the swap would hold everyone up: try again. Nothing has
                changed.
        """
        generation = await self._begin()
        filled: dict[int, int] = {}
        for _ in range(ROUNDS_MAX):  # bounded: should load outrun us, the swap fills the rest
            rows = await self._database.fetch(SQL["watermarks"])
            gap = 0
            for partition, watermark in _by_partition(rows).items():
                upto = filled.setdefault(partition, 1)
                gap += watermark - upto
                while upto < watermark:
                    step = min(upto + STEP_ENTRIES, watermark)
                    async with self._step(generation) as connection:
                        await connection.execute(SQL["fill"], partition, upto, step)
                    filled[partition] = upto = step
            if gap <= NEAR_ENTRIES:
                break
        async with self._step(generation) as connection:
            await connection.execute(SQL["analyze_generation"])
        await self._swap(generation, filled)
        rows_shown: int = await self._database.fetchval(SQL["count_rows"])
        return rows_shown

    async def _begin(self) -> int:
        """Make the next generation, whatever was there, and return its OID."""
        async with self._database.transaction() as connection:
            await connection.execute(SQL["take_turn"])
            await connection.execute(SQL["drop_generation"])
            await connection.execute(SQL["make_generation"])
            generation: int = await connection.fetchval(SQL["made_generation"])
            return generation

    @asynccontextmanager
    async def _step(self, generation: int) -> AsyncIterator[asyncpg.Connection]:
        """Lend a transaction during which the next generation is, and stays, `generation`."""
        async with self._database.transaction() as connection:
            await connection.execute(SQL["take_turn"])
            if not await connection.fetchval(SQL["is_next_generation"], generation):
                message = (
                    "another rebuild has begun: it goes on, this one has stopped;"
                    " nothing was changed"
                )
                raise DatabaseUnavailable(message)
            yield connection

    async def _swap(self, generation: int, filled: Mapping[int, int]) -> None:
        """Fill what is left, and put the next generation in its place."""
        async with self._step(generation) as connection:
            await connection.execute(SQL["set_lock_timeout"])
            rows = await connection.fetch(SQL["lock_watermarks"])
            await connection.execute(SQL["lock_projection"])
            for partition, watermark in _by_partition(rows).items():
                upto = filled.get(partition, 1)
                await connection.execute(SQL["fill"], partition, upto, watermark)
            await connection.execute(SQL["swap"])


def _by_partition(rows: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    return {int(row["partition_id"].rpartition("/")[2]): row["offset"] for row in rows}
