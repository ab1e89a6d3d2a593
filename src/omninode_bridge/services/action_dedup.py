"""What became of an action id, remembered for as long as its asker wanted (R3).

Rule 1: the decision is made inside the commit, under the partition's lock; a look from outside
        (`should_process`) is a hint that saves work, never the decision.
Rule 2: the presence of the row decides, not its expiry.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.message import check_workflow_key
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    import asyncpg

    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "action_dedup.sql")


class ActionDedupService:
    """Remembered outcomes. Implements the port `OutcomeCleaning`."""

    def __init__(self, database: Database) -> None:
        """Look and clean through `database`."""
        self._database = database
        self._cleaned_until: datetime | None = None

    async def should_process(self, workflow_key: str, action_id: UUID) -> bool:
        """Return False when the outcome of this id is remembered."""
        check_workflow_key(workflow_key)
        return await self._database.fetchval(SQL["find"], workflow_key, action_id) is None

    async def remember(
        self,
        workflow_key: str,
        action_id: UUID,
        result_hash: str,
        ttl_hours: float = 6,
        *,
        within: asyncpg.Connection,
    ) -> bool:
        """Remember that an action was processed, in the commit whose connection is `within`.

        That transaction must hold the partition's row (`CanonicalStoreService.locked`). Returns
        False when the id was known already: then the caller's work is a duplicate.

        Raises:
            ValueError: outside of a transaction, or with a lifetime that is not positive.
        """
        check_workflow_key(workflow_key)
        if not within.is_in_transaction():
            message = "remember() belongs inside a commit: the connection has no open transaction"
            raise ValueError(message)
        if ttl_hours <= 0:
            message = f"ttl_hours must be positive, not {ttl_hours}"
            raise ValueError(message)
        lifetime = timedelta(hours=ttl_hours)
        new = await within.fetchval(SQL["remember"], workflow_key, action_id, result_hash, lifetime)
        return new is not None

    async def cleanup_expired(self, limit: int) -> int:
        """Forget up to `limit` outcomes whose time is over; return how many.

        A call goes on where the one before it stopped, as long as each finds all it may. Fewer, or
        none: that was all, or another process is at it; the next call begins at the beginning.
        """
        row = await self._database.fetchrow(SQL["cleanup_expired"], limit, self._cleaned_until)
        assert row is not None
        forgotten: int = row["forgotten"]
        self._cleaned_until = row["reached"] if forgotten == limit else None
        return forgotten
