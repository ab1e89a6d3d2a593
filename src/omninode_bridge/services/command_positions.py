"""How far store effects have looked at the commits that come by a bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omninode_bridge.core.topics import PERSIST_STATE
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "command_positions.sql")


class CommandPositionService:
    """Implements the port `CommandPositions`."""

    def __init__(self, database: Database, *, prefix: str = "") -> None:
        """`prefix` stands before the topic's name."""
        self._database = database
        self._topic = prefix + PERSIST_STATE

    async def position(self, partition: int, incarnation: str, beginning: int) -> int:
        """Return the next offset to look at; `beginning` for a topic that is not the one before."""
        place = (self._topic, partition, incarnation, beginning)
        position: int = await self._database.fetchval(SQL["position"], *place)
        return position

    async def go_back(self, partition: int, incarnation: str, position: int) -> None:
        """Store a position that may be before the one that is stored."""
        place = (self._topic, partition, incarnation, position)
        await self._database.execute(SQL["go_back"], *place)

    async def advance(self, partition: int, incarnation: str, following: int) -> None:
        """Store that all before `following` was looked at."""
        place = (self._topic, partition, incarnation, following)
        await self._database.execute(SQL["advance"], *place)
