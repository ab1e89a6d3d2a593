"""PostgreSQL that comes along: started when needed, shared by processes, stopped after the last."""

from omninode_bridge.infrastructure.postgres.embedded.address import ServerAddress
from omninode_bridge.infrastructure.postgres.embedded.binaries import (
    PostgresBinaries,
    postgres_binaries,
)
from omninode_bridge.infrastructure.postgres.embedded.errors import (
    BinariesMissing,
    DataFolderRefused,
    EmbeddedServerError,
    LockTimeout,
    ServerAccountLockedOut,
    ServerAccountMissing,
    ServerStartFailed,
    WrongPostgresVersion,
)
from omninode_bridge.infrastructure.postgres.embedded.server import EmbeddedServer, Writers

__all__ = [
    "BinariesMissing",
    "DataFolderRefused",
    "EmbeddedServer",
    "EmbeddedServerError",
    "LockTimeout",
    "PostgresBinaries",
    "ServerAccountLockedOut",
    "ServerAccountMissing",
    "ServerAddress",
    "ServerStartFailed",
    "Writers",
    "WrongPostgresVersion",
    "postgres_binaries",
]
