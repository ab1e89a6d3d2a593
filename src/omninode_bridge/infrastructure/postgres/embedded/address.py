"""Where the embedded server is: what asyncpg, libpq and a person need to connect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from omninode_bridge.infrastructure.postgres.embedded.settings import DATABASE, PORT, ROLE

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """One database of a server behind a socket in `socket_folder`."""

    socket_folder: Path
    database: str = DATABASE
    user: str = ROLE
    port: int = PORT

    @property
    def connect_arguments(self) -> dict[str, str | int]:
        """What `asyncpg.connect` and `asyncpg.create_pool` take as keywords."""
        return {
            "host": str(self.socket_folder),
            "port": self.port,
            "user": self.user,
            "database": self.database,
        }

    @property
    def url(self) -> str:
        """The same as one string, for asyncpg, libpq and SQLAlchemy."""
        host = quote(str(self.socket_folder), safe="")
        return f"postgresql://{self.user}@/{self.database}?host={host}&port={self.port}"

    @property
    def program_arguments(self) -> list[str]:
        """What psql, pg_dump and pgbench take on their command lines, the database last."""
        return [
            f"--host={self.socket_folder}",
            f"--port={self.port}",
            f"--username={self.user}",
            self.database,
        ]
