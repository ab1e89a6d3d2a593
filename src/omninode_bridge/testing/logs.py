"""The event log in memory: implements `ActionLog`, `IntentLog`, `ProjectionLog`, `SegmentCleaning`.

None of these calls waits, so each is done whole before anybody else's.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING

from omninode_bridge.core.errors import BrokenPromise, DatabaseRefused, DatabaseUnavailable
from omninode_bridge.ports import CutOff, LoggedAction
from omninode_bridge.testing.values import check_moment, check_projections, check_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from omninode_bridge.core.effects import LoggedIntent
    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.ports import Clock, LoggedProjection, Source
    from omninode_bridge.testing.interruptions import Interruptions
    from omninode_bridge.testing.tables import Partition, Tables, TransientLog


class MemoryActionLog:
    """Implements the ports `ActionLog` and `Timers`, by the clock of the world."""

    def __init__(self, tables: Tables, interruptions: Interruptions, clock: Clock) -> None:
        """Append to `tables`."""
        self._tables = tables
        self._interruptions = interruptions
        self._clock = clock

    async def append(
        self, partition: int, actions: Sequence[SealedAction], source: Source | None = None
    ) -> int:
        """Append in order, durably; return how many were new (all, when there is no source)."""
        with self._interruptions.around("actions.append"):
            here = self._tables.partition(partition)
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
            check_actions(new)
            if source is not None:
                self._tables.positions[consumer] = source.next
            put_actions(here, new, self._clock())
            return len(new)

    async def fire(self, partition: int, limit: int) -> tuple[int, float | None]:
        """Move up to `limit` due actions into the log; return how many, and the next wait in s."""
        with self._interruptions.around("timers.fire"):
            here, now = self._tables.partition(partition), self._clock()
            due = [action for due_at, _, action in here.timers if due_at <= now][:limit]
            del here.timers[: len(due)]
            _write(here.actions, due)
            next_s = (here.timers[0][0] - now).total_seconds() if here.timers else None
            return len(due), next_s

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
            segments = log.segments_behind(min((log.head, *positions)))
            if segments and topic == "intent" and here.lock.locked():
                raise DatabaseUnavailable(f"partition {partition} is locked")
            log.drop(segments)
            return segments


def check_actions(actions: Iterable[SealedAction]) -> None:
    """Return when PostgreSQL could store all of them; raise ValueRefused when not."""
    for action in actions:
        check_text(action.workflow_key)
        if action.due_at is not None:
            check_moment(action.due_at)


def put_actions(here: Partition, actions: Iterable[SealedAction], now: datetime) -> None:
    """Put actions into the log, and those that are not due into the timers."""
    at_once = []
    for action in actions:
        if action.due_at is None or action.due_at <= now:
            at_once.append(action)
        else:
            here.timers_set += 1
            insort(here.timers, (action.due_at, here.timers_set, action))
    _write(here.actions, at_once)


def _write(log: TransientLog[LoggedAction], actions: Sequence[SealedAction]) -> None:
    log.extend([LoggedAction(log.head + n, action) for n, action in enumerate(actions)])
