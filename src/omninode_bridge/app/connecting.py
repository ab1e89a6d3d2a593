"""How a database is reached, and found fit; and the Redis that may stand beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import platformdirs

from omninode_bridge.core.errors import ConfigurationError
from omninode_bridge.core.roles import read_roles
from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.infrastructure.postgres.database import translated
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from omninode_bridge.infrastructure.postgres.pooling import with_pooler_seen
from omninode_bridge.services.event_log import EventLogService
from omninode_bridge.settings import check_redis_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AsyncExitStack

    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.roles import Role
    from omninode_bridge.infrastructure.postgres.database import Database
    from omninode_bridge.infrastructure.postgres.embedded import Writers
    from omninode_bridge.infrastructure.redis_hints import RedisHints

PARTITIONS: Final = 4
PARTITIONS_MAX: Final = 256
"""More would need more locks at once than a server has by default, just to be made."""


async def reach_database(
    stack: AsyncExitStack,
    data_dir: Path | str | None,
    database_url: str | None,
    *,
    writing: bool,
    on_wait: Callable[[], None] | None,
) -> tuple[Mapping[str, Any], Writers | None]:
    """Return how to connect to a migrated database, and the writers of a data folder.

    `stack` holds an embedded server. There are no writers where we only read, or on a server.

    Raises:
        ConfigurationError: both places are given, or the server's database lacks migrations.
    """
    if database_url is not None:
        if data_dir is not None:
            message = "give data_dir or database_url, not both"
            raise ConfigurationError(message)
        await _require_migrated({"dsn": database_url})
        with translated():
            return await with_pooler_seen({"dsn": database_url}), None
    folder = Path(data_dir) if data_dir is not None else default_data_dir()
    server = EmbeddedServer(folder)
    writers = await stack.enter_async_context(server.sharing(on_wait)) if writing else None
    address = await stack.enter_async_context(server.use())
    await migrations.upgrade(address.connect_arguments)
    return address.connect_arguments, writers


def default_data_dir() -> Path:
    """Return where the embedded database of this user lives unless they say otherwise."""
    return Path(platformdirs.user_data_path("omninode-bridge"))


def redis_hints(url: str) -> Callable[[Observe], RedisHints]:
    """Return what makes hints of the Redis at `url`, having found out that it can.

    Raises:
        ConfigurationError: the address is none, or the package is missing.
    """
    try:
        check_redis_url(url)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    try:
        from omninode_bridge.infrastructure.redis_hints import RedisHints  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        message = (
            "a Redis is named, but the package that speaks to it is missing:"
            " pip install omninode-bridge[redis]"
        )
        raise ConfigurationError(message) from error
    return lambda observe: RedisHints(url, observe=observe)


def duties_of(roles: Iterable[str]) -> frozenset[Role]:
    """Return the roles that are named.

    Raises:
        ConfigurationError: there is no such role, or none is named.
    """
    try:
        return read_roles(roles)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


async def _require_migrated(connect: Mapping[str, Any]) -> None:
    pending = [m.name for m in await migrations.status(connect) if not m.applied]
    if pending:
        message = (
            f"the database lacks {', '.join(pending)}: run `omninode-bridge migrate up"
            " --database-url ...` first"
        )
        raise ConfigurationError(message)


async def require_read_committed(database: Database) -> None:
    """Refuse a database whose statements do not run as the commit's proof has it.

    Raises:
        ConfigurationError: the isolation level is another.
    """
    level = await EventLogService(database).default_isolation()
    if level != "read committed":
        message = (
            f"statements run at {level!r} here, and commits rest on 'read committed': change it for"
            " the role that connects (ALTER ROLE ... SET default_transaction_isolation = ...)"
        )
        raise ConfigurationError(message)


async def create_partitions(database: Database, asked: int | None) -> int:
    """Make the partitions of a new database; return how many this one has.

    Raises:
        ConfigurationError: so many cannot be, or the database has another number.
    """
    wanted = PARTITIONS if asked is None else asked
    if not 1 <= wanted <= PARTITIONS_MAX:
        message = f"a database has 1 to {PARTITIONS_MAX} partitions, not {wanted}"
        raise ConfigurationError(message)
    actual = await EventLogService(database).create_partitions(wanted)
    if asked not in (None, actual):
        message = (
            f"this database was created with {actual} partitions, not {asked}: the number decides"
            " which partition a key belongs to, and stays"
        )
        raise ConfigurationError(message)
    return actual
