"""The `state-committed` topic as a materializer reads it, and the rows and watermark it writes.

Rule 1: rows and watermark become durable together, and the watermark never goes back (R7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.postgres.statements import Statements
from omninode_bridge.ports import LoggedProjection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "projection_log.sql")


def partition_id(partition: int) -> str:
    """Return the name of a partition of the topic: `state-committed/<number>`."""
    return f"state-committed/{partition}"


class ProjectionLogService:
    """Implements the port `ProjectionLog`."""

    def __init__(
        self, database: Database, codec: Codec, *, incarnation: UUID | None = None
    ) -> None:
        """Read and write through `database`.

        `incarnation` is of the log whose offsets the callers mean; None: it is not checked.
        """
        self._database = database
        self._codec = codec
        self._incarnation = incarnation

    async def read(self, partition: int, position: int, limit: int) -> list[LoggedProjection]:
        """Return up to `limit` entries from `position` on, none when there are none yet."""
        rows = await self._database.fetch(SQL["read_committed"], partition, position, limit)
        return [
            LoggedProjection(
                row["offset"],
                row["workflow_key"],
                row["version"],
                row["action_type"],
                row["committed_at"],
                wire.read_projection(orjson.loads(row["projection"]), self._codec),
            )
            for row in rows
        ]

    async def watermark(self, partition: int) -> int:
        """Return the position of the projection of `partition`."""
        watermark = await self._database.fetchval(SQL["watermark"], partition_id(partition))
        return 1 if watermark is None else watermark

    async def apply(
        self, partition: int, expected: int, following: int, entries: Sequence[LoggedProjection]
    ) -> int:
        """Write the last row of each key, and the watermark, if it is still `expected`.

        Raises:
            PartitionsChanged: the entries were read by a numbering that is past.
        """
        last = {entry.workflow_key: entry for entry in entries}
        rows = list(last.values())
        watermark: int = await self._database.fetchval(
            SQL["apply"],
            partition_id(partition),
            expected,
            following,
            list(last),
            [row.version for row in rows],
            [row.projection.tag for row in rows],
            [row.action_type for row in rows],
            [row.projection.namespace for row in rows],
            [row.committed_at for row in rows],
            [_text(row.projection.indices) for row in rows],
            [_text(row.projection.extras) for row in rows],
            self._incarnation,
        )
        return watermark


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()
