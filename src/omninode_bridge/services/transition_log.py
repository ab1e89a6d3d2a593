"""The transitions of one key, read from the `fsm-state-transitioned` topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.postgres.database import plain_uuid
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from typing import Any

    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.infrastructure.postgres.database import Database
    from omninode_bridge.ports import LoggedTransition

SQL: Final = Statements("omninode_bridge.services", "transition_log.sql")


class TransitionLogService:
    """Implements the port `TransitionLog`. The commit writes what is read here."""

    def __init__(self, database: Database, codec: Codec) -> None:
        """Read through `database`; transitions come out as canonical bytes."""
        self._database = database
        self._codec = codec

    async def history(self, workflow_key: str, after: int, limit: int) -> list[LoggedTransition]:
        """Return up to `limit` transitions of a key in offset order, from behind `after` on."""
        rows = await self._database.fetch(SQL["history"], workflow_key, after, limit)
        return [self._entry(row) for row in rows]

    async def last(self, workflow_key: str, version: int) -> LoggedTransition | None:
        """Return the last transition of a key at `version` or before; None: there was none."""
        row = await self._database.fetchrow(SQL["last"], workflow_key, version)
        return None if row is None else self._entry(row)

    def _entry(self, row: Any) -> LoggedTransition:  # noqa: ANN401 - asyncpg ships no types
        return wire.read_transition(
            row["offset"],
            plain_uuid(row["action_id"]),
            row["committed_at"],
            orjson.loads(row["body"]),
            self._codec,
        )
