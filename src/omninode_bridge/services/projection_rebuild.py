"""Builds the projection anew, from the log, while reads and commits go on (R7).

A new generation is filled beside the one that is read, in short transactions; when it has all but
caught up, the rest is filled and the two are swapped together with their watermarks.

Rule 1: it reads the projections that stand in the log; nothing is folded, no effect is fired.
Rule 2: died half way, it leaves a table that nobody reads and the next rebuild drops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    import asyncpg

    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "projection_rebuild.sql")

STEP_ENTRIES: Final = 20_000
NEAR_ENTRIES: Final = 2_000
ROUNDS_MAX: Final = 20


class ProjectionRebuildService:
    """Rebuilds `workflow_projection`; one at a time."""

    def __init__(self, database: Database) -> None:
        """Work through `database`."""
        self._database = database

    async def rebuild(self, partitions: int) -> int:
        """Rebuild and swap; return how many keys the projection shows then.

        Raises:
            DatabaseUnavailable: somebody reads the projection for so long that the swap would hold
                everyone up; nothing has changed: try again.
        """
        await self._database.execute(SQL["drop_generation"])
        await self._database.execute(SQL["make_generation"])
        filled = dict.fromkeys(range(partitions), 1)
        for _ in range(ROUNDS_MAX):  # bounded: should load outrun us, the swap fills the rest
            rows = await self._database.fetch(SQL["heads"])
            heads = {row["partition"]: row["head"] for row in rows}
            if sum(heads[n] - filled[n] for n in filled) <= NEAR_ENTRIES:
                break
            for partition, head in heads.items():
                while filled[partition] < head:
                    upto = min(filled[partition] + STEP_ENTRIES, head)
                    await self._database.execute(SQL["fill"], partition, filled[partition], upto)
                    filled[partition] = upto
        async with self._database.transaction() as connection:
            await connection.execute(SQL["set_lock_timeout"])
            await self._swap(connection, filled)
        rows_shown: int = await self._database.fetchval(SQL["count_rows"])
        return rows_shown

    async def _swap(self, connection: asyncpg.Connection, filled: dict[int, int]) -> None:
        rows = await connection.fetch(SQL["lock_watermarks"])
        watermarks = {row["partition_id"]: row["offset"] for row in rows}
        await connection.execute(SQL["lock_projection"])
        for partition, upto in filled.items():
            partition_id = f"state-committed/{partition}"
            watermark = watermarks.get(partition_id, 1)
            if watermark > upto:
                await connection.execute(SQL["fill"], partition, upto, watermark)
            await connection.execute(SQL["set_watermark"], partition_id, max(watermark, upto))
        await connection.execute(SQL["swap"])
