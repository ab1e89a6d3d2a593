"""The event log in memory: implements `ActionLog`, `IntentLog`, `ProjectionLog`, `SegmentCleaning`.

None of these calls waits, so each is done whole before anybody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode_bridge.core.errors import BrokenPromise, DatabaseRefused, DatabaseUnavailable
from omninode_bridge.core.message import SUBMIT_ACTION
from omninode_bridge.ports import CutOff, LoggedAction, LoggedIntent
from omninode_bridge.testing.values import check_projections, check_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.ports import LoggedProjection, Source
    from omninode_bridge.testing.interruptions import Interruptions
    from omninode_bridge.testing.tables import Tables


class MemoryActionLog:
    """Implements the port `ActionLog`."""

    def __init__(self, tables: Tables, interruptions: Interruptions) -> None:
        """Append to `tables`."""
        self._tables = tables
        self._interruptions = interruptions

    async def append(
        self, partition: int, actions: Sequence[SealedAction], source: Source | None = None
    ) -> int:
        """Append in order, durably; return how many were new (all, when there is no source)."""
        with self._interruptions.around("actions.append"):
            log = self._tables.partition(partition).actions
            new = list(actions)
            if source is not None:
                consumer = ("dispatcher", "intent", source.partition, partition)
                seen = self._tables.positions.get(consumer)
                if seen is None:
                    raise DatabaseRefused("P0002", f"{consumer} is not registered")
                if seen >= source.next:
                    return 0
                numbered = zip(actions, source.offsets, strict=True)
                new = [action for action, offset in numbered if offset >= seen]
            for action in new:
                check_text(action.workflow_key)
            if source is not None:
                self._tables.positions[consumer] = source.next
            log.extend([LoggedAction(log.head + n, action) for n, action in enumerate(new)])
            return len(new)

    async def read(
        self, partition: int, position: int, limit: int
    ) -> Sequence[LoggedAction] | CutOff:
        """Return up to `limit` entries from `position` on, none when there are none yet."""
        with self._interruptions.around("actions.read"):
            return self._tables.partition(partition).actions.read(position, limit)

    async def position(self, partition: int) -> int:
        """Return the partition worker's position."""
        with self._interruptions.around("actions.position"):
            return self._tables.worker_position(partition)


class MemoryIntentLog:
    """Implements the port `IntentLog`."""

    def __init__(self, tables: Tables, interruptions: Interruptions) -> None:
        """Read from `tables`."""
        self._tables = tables
        self._interruptions = interruptions

    async def read(
        self, partition: int, position: int, limit: int
    ) -> Sequence[LoggedIntent] | CutOff:
        """Return up to `limit` entries from `position` on, none when there are none yet."""
        with self._interruptions.around("intents.read"):
            return self._tables.partition(partition).intents.read(position, limit)

    async def positions(self, partition: int) -> dict[int, int]:
        """Return, for every target partition, the position it has stored for this source."""
        with self._interruptions.around("intents.positions"):
            return {
                home: following
                for (name, topic, source, home), following in self._tables.positions.items()
                if (name, topic, source) == ("dispatcher", "intent", partition)
            }


class MemoryProjectionLog:
    """Implements the port `ProjectionLog`."""

    def __init__(self, tables: Tables, interruptions: Interruptions) -> None:
        """Read from and write to `tables`."""
        self._tables = tables
        self._interruptions = interruptions

    async def read(self, partition: int, position: int, limit: int) -> Sequence[LoggedProjection]:
        """Return up to `limit` entries from `position` on, none when there are none yet."""
        with self._interruptions.around("projections.read"):
            first = max(0, position - 1)
            return self._tables.partition(partition).committed[first : first + limit]

    async def watermark(self, partition: int) -> int:
        """Return the position of the projection of `partition`."""
        with self._interruptions.around("projections.watermark"):
            return self._tables.partition(partition).watermark

    async def apply(
        self, partition: int, expected: int, following: int, entries: Sequence[LoggedProjection]
    ) -> int:
        """Write the last row of each key, and the watermark, if it is still `expected`.

        Raises:
            BrokenPromise: when `following` lies before `expected`.
        """
        with self._interruptions.around("projections.apply"):
            here = self._tables.partition(partition)
            if following < expected:
                raise BrokenPromise(
                    f"the watermark of state-committed/{partition} cannot go back from {expected}"
                    f" to {following}"
                )
            if here.watermark != expected:
                return here.watermark
            last = {entry.workflow_key: entry for entry in entries}
            check_projections(entry.projection for entry in last.values())
            rows = self._tables.projections
            for key, entry in last.items():
                if key not in rows or rows[key].version < entry.version:
                    rows[key] = entry
            here.watermark = following
            return following


class MemorySegments:
    """Implements the port `SegmentCleaning`."""

    def __init__(self, tables: Tables, interruptions: Interruptions) -> None:
        """Cut off the logs of `tables`."""
        self._tables = tables
        self._interruptions = interruptions

    async def drop_segments(self, topic: str, partition: int) -> int:
        """Drop the whole segments that lie behind all registered consumers; return how many.

        The first with an intent that nobody handles yet stays, and so do those behind it.

        Raises:
            BrokenPromise: the topic is history.
            DatabaseUnavailable: a commit has the lock; try another time.
        """
        with self._interruptions.around("segments.drop_segments"):
            here = self._tables.partition(partition)
            if topic not in {"action", "intent"}:
                raise BrokenPromise(f"topic {topic} is history: it is not cut off")
            log = here.actions if topic == "action" else here.intents
            positions = (
                following
                for (_, of, number, _), following in self._tables.positions.items()
                if (of, number) == (topic, partition)
            )
            kept = here.intents.first(_is_unhandled) if topic == "intent" else log.head
            segments = log.segments_behind(min((log.head, kept, *positions)))
            if segments and topic == "intent" and here.lock.locked():
                raise DatabaseUnavailable(f"partition {partition} is locked")
            log.drop(segments)
            return segments


def _is_unhandled(entry: LoggedIntent) -> bool:
    return entry.intent.intent_type != SUBMIT_ACTION
