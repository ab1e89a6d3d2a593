"""What stood on a bus's action topic goes into our action log, exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import TopicReplaced
from omninode_bridge.core.topics import ACTION
from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.postgres.statements import Statements
from omninode_bridge.ports import TakenIn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.infrastructure.postgres.database import Database
    from omninode_bridge.ports import BusSource

SQL: Final = Statements("omninode_bridge.services", "taken_over.sql")

SEGMENT_ENTRIES: Final = 200_000


class TakenOverService:
    """Implements the port `TakenOver`."""

    def __init__(
        self,
        database: Database,
        *,
        prefix: str = "",
        segment_entries: int = SEGMENT_ENTRIES,
        log: UUID | None = None,
    ) -> None:
        """`prefix` stands before the topic's name; a segment has `segment_entries` entries.

        `log` is the incarnation of our log whose partitions are meant; None: it is not checked.
        """
        self._database = database
        self._log = log
        self._topic = prefix + ACTION
        self._segment_entries = segment_entries

    async def position(self, partition: int, incarnation: str, beginning: int) -> int:
        """Return the position in `partition` of the bus's topic; `beginning` for a new one.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
            PartitionsChanged: there is another number of partitions now.
        """
        row = await self._database.fetchrow(
            SQL["position"], self._topic, partition, incarnation, beginning, self._log
        )
        assert row is not None
        self._check(row["incarnation"], incarnation)
        position: int = row["next"]
        return position

    async def take_over(
        self, target: int, actions: Sequence[SealedAction], source: BusSource
    ) -> TakenIn:
        """Append in order to the action log of `target`, durably; return how many were new.

        Raises:
            TopicReplaced: the position was stored for another incarnation.
            PartitionsChanged: `target` was reckoned by a number that is past.
            ValueRefused: one of them cannot be stored; none was.
        """
        due_at = [action.due_at for action in actions]
        row = await self._database.fetchrow(
            SQL["take_over"],
            target,
            [action.workflow_key for action in actions],
            [action.action_id for action in actions],
            [wire.action_text(action) for action in actions],
            due_at if any(due_at) else None,
            self._segment_entries,
            *(self._topic, source.partition, source.incarnation),
            *(source.first, source.next, list(source.offsets)),
            self._log,
        )
        assert row is not None
        self._check(row["stored"], source.incarnation)
        added, has_due = row["added"], any(due_at)
        are_together = added == len(actions) > 0 and not has_due
        return TakenIn(added, row["first"] if are_together else None)

    def _check(self, stored: str, incarnation: str) -> None:
        if stored != incarnation:
            raise TopicReplaced(self._topic, stored, incarnation)
