"""The stores over one database of one partition, which counts the questions it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.services.action_dedup import ActionDedupService
from omninode_bridge.services.canonical_store import CanonicalStoreService
from omninode_bridge.services.event_log import EventLogService
from omninode_bridge.services.projection_log import ProjectionLogService
from omninode_bridge.services.projection_store import ProjectionStoreService
from tests.bridges import app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

CODEC = CanonicalCodec()
KEY = "counter:1"
STATE = {"count": 1, "total": 7}


class CountingDatabase(Database):
    """Writes down every statement."""

    statements: list[str]

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run and count."""
        self.statements.append(statement)
        return await super().fetch(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: object) -> asyncpg.Record | None:
        """Run and count."""
        self.statements.append(statement)
        return await super().fetchrow(statement, *arguments)


@dataclass
class Stores:
    """The stores over one database of one partition."""

    database: CountingDatabase
    canonical: CanonicalStoreService
    outcomes: ActionDedupService
    log: ProjectionLogService
    projections: ProjectionStoreService

    async def project(self) -> None:
        """Bring the projection up with the log, without telling anybody."""
        watermark = await self.log.watermark(0)
        entries = await self.log.read(0, watermark, 1_000)
        if entries:
            await self.log.apply(0, watermark, entries[-1].offset + 1, entries)


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    """Give the stores on a database of this test alone."""
    async with CountingDatabase({"dsn": database_url}, connections_max=6) as database:
        database.statements = []
        await EventLogService(database).create_partitions(1)
        key_types = app.key_types()
        projections = ProjectionStoreService(database)
        yield Stores(
            database,
            CanonicalStoreService(database, CODEC, partitions=1, key_types=key_types),
            ActionDedupService(database),
            ProjectionLogService(database, CODEC),
            projections,
        )
        await projections.close()
