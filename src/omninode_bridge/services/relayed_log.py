"""The topics of our log that are history as a relay reads them, and how far a bus has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.errors import BusUnavailable, TopicReplaced
from omninode_bridge.core.topics import RELAYED
from omninode_bridge.infrastructure.postgres.database import plain_uuid
from omninode_bridge.infrastructure.postgres.statements import Statements
from omninode_bridge.ports import LoggedEvent

if TYPE_CHECKING:
    from uuid import UUID

    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "relayed_log.sql")

_READ: Final = {
    "state-committed": SQL["read_state_committed"],
    "reducer-gave-up": SQL["read_reducer_gave_up"],
    "fsm-state-transitioned": SQL["read_fsm_state_transitioned"],
}


class RelayedLogService:
    """Implements the port `RelayedLog`."""

    def __init__(self, database: Database, *, prefix: str = "", log: UUID | None = None) -> None:
        """`prefix` stands before the names of the bus's topics.

        `log` is the incarnation of our log whose offsets are meant; None: it is not checked.
        """
        self._database = database
        self._log = log
        self._prefix = prefix

    async def read(
        self, topic: str, partition: int, position: int, limit: int
    ) -> list[LoggedEvent]:
        """Return up to `limit` entries from `position` on, none when there are none yet.

        Raises:
            PartitionsChanged: this place is another entry's now.
        """
        rows = await self._database.fetch(_READ[topic], partition, position, limit, self._log)
        return [
            LoggedEvent(
                row["offset"],
                row["workflow_key"],
                plain_uuid(row["action_id"]),
                row["version"],
                row["happened_at"],
                row["body"].encode(),
            )
            for row in rows
        ]

    async def position(self, topic: str, partition: int, incarnation: str) -> int:
        """Return the next offset that the bus has not confirmed.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
            PartitionsChanged: there is another number of partitions now.
        """
        row = await self._database.fetchrow(
            SQL["position"], self._prefix + RELAYED[topic], partition, incarnation, self._log
        )
        assert row is not None
        self._check(topic, row["incarnation"], incarnation)
        position: int = row["next"]
        return position

    async def advance(self, topic: str, partition: int, incarnation: str, following: int) -> None:
        """Store that the bus has confirmed all before `following`; never goes back.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
            BusUnavailable: somebody has made us forget the position: begin again.
            PartitionsChanged: `following` is the place of another entry now.
        """
        bus_topic = self._prefix + RELAYED[topic]
        stored: str | None = await self._database.fetchval(
            SQL["advance"], bus_topic, partition, incarnation, following, self._log
        )
        if stored is None:
            raise BusUnavailable(f"the position of the relay to {bus_topic} was forgotten")
        self._check(topic, stored, incarnation)

    async def positions(self) -> list[dict[str, Any]]:
        """Return every position in step with a bus, as `bus positions` shows it."""
        return [dict(row) for row in await self._database.fetch(SQL["positions"])]

    async def forget(self, bus_topic: str) -> int:
        """Forget how far we are in step with a topic of the bus; return how many positions.

        For a person who knows what is missing: the topic is begun anew.
        """
        forgotten: int = await self._database.fetchval(SQL["forget"], bus_topic)
        return forgotten

    def _check(self, topic: str, stored: str, incarnation: str) -> None:
        if stored != incarnation:
            raise TopicReplaced(self._prefix + RELAYED[topic], stored, incarnation)
