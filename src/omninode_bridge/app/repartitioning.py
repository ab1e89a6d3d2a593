"""How the number of partitions of a database is changed, while nobody uses it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from omninode_bridge.app.connecting import (
    default_data_dir,
    reach_database,
    require_possible,
    require_read_committed,
)
from omninode_bridge.core.errors import ConfigurationError
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer, LockTimeout
from omninode_bridge.services.repartition import Repartitioning, RepartitionService

if TYPE_CHECKING:
    from collections.abc import Callable


async def repartition(
    partitions: int,
    *,
    data_dir: Path | str | None = None,
    database_url: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Repartitioning:
    """Have `partitions` partitions from now on; the place is named as for `Bridge.open`.

    Everything a key has moves with it, in its order; see `Repartitioning` for what comes back.
    `progress` is told each step in words.

    Raises:
        ConfigurationError: no database can have so many, or this one has none yet.
        DatabaseUnavailable: as `RepartitionService.repartition`.
    """
    require_possible(partitions)
    async with AsyncExitStack() as stack:
        connect = await reach_database(stack, data_dir, database_url, writing=False, on_wait=None)
        # One connection: whoever else is connected is then somebody else.
        database = await stack.enter_async_context(Database(connect, connections_max=1))
        await require_read_committed(database)
        service = RepartitionService(database, progress=progress)
        before = await service.present()
        if before is None:
            message = "this database has no partitions yet: they are made when a bridge is opened"
            raise ConfigurationError(message)
        if before == partitions:
            return Repartitioning(before, before)
        if database_url is None:
            folder = Path(data_dir) if data_dir is not None else default_data_dir()
            try:
                await stack.enter_async_context(EmbeddedServer(folder).writing(wait_s=0))
            except LockTimeout as error:
                writer = "another process" if error.holder is None else f"process {error.holder}"
                return Repartitioning(before, before, [f"{writer} is writing to {folder}: stop it"])
        return await service.repartition(partitions, alone=database_url is None)
