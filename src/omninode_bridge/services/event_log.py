"""The event log on PostgreSQL: append to it, read it, hold positions in it, cut it off.

Rule 1: offsets are dense and their order is commit order; there are no gaps to guess about (R6).
Rule 2: history is kept; transient topics go away in whole segments, behind all consumers.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import ge
from typing import TYPE_CHECKING, Any, Final

import orjson

from omninode_bridge.core.partition import Partitioning
from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.postgres.database import plain_uuid
from omninode_bridge.infrastructure.postgres.rows import logged_intent
from omninode_bridge.infrastructure.postgres.statements import Statements
from omninode_bridge.ports import CutOff, LoggedAction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    from omninode_bridge.core.effects import LoggedIntent
    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.infrastructure.postgres.database import Database
    from omninode_bridge.ports import Source

SQL: Final = Statements("omninode_bridge.services", "event_log.sql")

SEGMENT_ENTRIES: Final = 200_000


class ActionLogService:
    """The `action` topic. Implements the port `ActionLog`."""

    def __init__(
        self,
        database: Database,
        codec: Codec,
        *,
        segment_entries: int = SEGMENT_ENTRIES,
        incarnation: UUID | None = None,
    ) -> None:
        """`segment_entries` is how many entries a segment holds.

        `incarnation` is of the log whose partitions the callers mean; None: it is not checked.
        """
        self._database = database
        self._codec = codec
        self._incarnation = incarnation
        self._segment_entries = segment_entries

    async def append(
        self, partition: int, actions: Sequence[SealedAction], source: Source | None = None
    ) -> int:
        """Append in order, durably; return how many were new (all, when there is no source).

        Raises:
            PartitionsChanged: `partition` was reckoned by a number that is past.
        """
        due_at = [action.due_at for action in actions]
        added: int = await self._database.fetchval(
            SQL["append_actions"],
            partition,
            [action.workflow_key for action in actions],
            [action.action_id for action in actions],
            [wire.action_text(action) for action in actions],
            due_at if any(due_at) else None,
            self._segment_entries,
            source and source.partition,
            source and source.next,
            source and list(source.offsets),
            self._incarnation,
        )
        return added

    async def read(
        self, partition: int, position: int, limit: int
    ) -> Sequence[LoggedAction] | CutOff:
        """Return up to `limit` entries from `position` on, none when there are none yet."""
        rows = await self._database.fetch(SQL["read_actions"], partition, position, limit)
        if position < rows[0]["low"]:
            return CutOff(rows[0]["low"])
        return [
            LoggedAction(row["offset"], wire.read_action(orjson.loads(row["body"]), self._codec))
            for row in rows
            if row["offset"] is not None
        ]

    async def position(self, partition: int) -> int:
        """Return the partition worker's position."""
        position: int = await self._database.fetchval(SQL["reducer_position"], partition)
        return position


class TimerService:
    """Actions that are not due yet. Implements the port `Timers`."""

    def __init__(self, database: Database, *, segment_entries: int = SEGMENT_ENTRIES) -> None:
        """`segment_entries` is how many entries a segment of the action log holds."""
        self._database = database
        self._segment_entries = segment_entries

    async def fire(self, partition: int, limit: int) -> tuple[int, float | None]:
        """Move up to `limit` due actions into the action log; return how many, and the next wait.

        The wait is in seconds until the next one is due, None when there is none.
        """
        row = await self._database.fetchrow(
            SQL["fire_timers"], partition, limit, self._segment_entries
        )
        assert row is not None
        return row["fired"], row["next_s"]


class IntentLogService:
    """The `intent` topic. Implements the port `IntentLog`."""

    def __init__(self, database: Database, codec: Codec) -> None:
        """Read through `database`; payloads come out as canonical bytes."""
        self._database = database
        self._codec = codec

    async def read(
        self, partition: int, position: int, limit: int
    ) -> Sequence[LoggedIntent] | CutOff:
        """Return up to `limit` entries from `position` on, none when there are none yet."""
        rows = await self._database.fetch(SQL["read_intents"], partition, position, limit)
        if position < rows[0]["low"]:
            return CutOff(rows[0]["low"])
        return [logged_intent(row, self._codec) for row in rows if row["offset"] is not None]

    async def positions(self, partition: int) -> dict[int, int]:
        """Return, for every target partition, the position it has stored for this source."""
        rows = await self._database.fetch(SQL["dispatcher_positions"], partition)
        return {row["home"]: row["next"] for row in rows}


@dataclass(frozen=True, slots=True)
class LogProgress:
    """The heads of three topics, one a partition, and the positions of who is furthest behind."""

    actions: tuple[int, ...]
    intents: tuple[int, ...]
    state_committed: tuple[int, ...]
    positions: tuple[tuple[int, ...], ...]

    def has_reached(self, goal: LogProgress) -> bool:
        """Return whether all that stood before the heads of `goal` is consumed."""
        heads = (goal.actions, goal.intents, goal.state_committed)
        return all(
            all(map(ge, positions, topic))
            for positions, topic in zip(self.positions, heads, strict=True)
        )


class EventLogService:
    """What is neither a loop's log nor a commit: consumers, history, cutting off, being settled."""

    def __init__(self, database: Database) -> None:
        """Read and maintain the log through `database`."""
        self._database = database

    async def create_partitions(self, partitions: int) -> Partitioning:
        """Make the partitions of a new database; return how many this one has.

        Raises:
            DatabaseUnavailable: their number is being changed, or they are being made, for longer
                than we wait.
        """
        row = await self._database.fetchrow(SQL["create_partitions"], partitions)
        assert row is not None
        return Partitioning(row["partitions"], plain_uuid(row["incarnation"]))

    async def register(self, consumer: str, topic: str, partition: int, home: int) -> None:
        """Hold back the segments of a transient topic for `consumer`, from its low on.

        `home` is the partition whose transactions move the position (R11).
        """
        await self._database.execute(SQL["register_consumer"], consumer, topic, partition, home)

    async def retire(self, consumer: str, topic: str) -> None:
        """No longer hold anything back for `consumer`."""
        await self._database.execute(SQL["retire_consumer"], consumer, topic)

    async def drop_segments(self, topic: str, partition: int) -> int:
        """Drop the whole segments behind all registered consumers; return how many.

        Raises:
            DatabaseUnavailable: a lock was not to be had within 25 ms; try another time.
        """
        dropped = 0
        while True:  # a transaction each: commits get their turn in between
            async with self._database.transaction() as connection:
                await connection.execute(SQL["set_lock_timeout"])
                if not await connection.fetchval(SQL["drop_segments"], topic, partition):
                    return dropped
            dropped += 1

    async def default_isolation(self) -> str:
        """Return the isolation level that this role's statements run at in this database."""
        level: str = await self._database.fetchval(SQL["default_isolation"])
        return level

    async def progress(self, effect_types: Iterable[str] = ()) -> LogProgress:
        """Return where all logs end now, and how far their consumers are.

        An effect of `effect_types` that waits outside of the log, because it failed or was redriven
        or found no room, is not consumed. One whose own time has not come is.
        """
        rows = await self._database.fetch(SQL["progress"], list(effect_types))

        def column(name: str) -> tuple[int, ...]:
            return tuple(row[name] for row in rows)

        positions = ("action_position", "intent_position", "state_committed_position")
        return LogProgress(
            column("action_head"),
            column("intent_head"),
            column("state_committed_head"),
            tuple(column(name) for name in positions),
        )

    async def follow_ups_between(
        self, earlier: LogProgress, later: LogProgress, *, action_depth: int, intent_depth: int
    ) -> bool:
        """Return whether between the heads of two looks a chain of follow-up actions goes on.

        That is an action of at least `action_depth` in an action log, or an intent of an action of
        at least `intent_depth`. What has been cut off meanwhile may have been one.
        """
        found: bool = await self._database.fetchval(
            SQL["follow_ups_between"],
            *(earlier.actions, later.actions, earlier.intents, later.intents),
            *(action_depth, intent_depth),
        )
        return found

    async def history(self, workflow_key: str, after: int, limit: int) -> list[dict[str, Any]]:
        """Return up to `limit` versions of a key above `after`, as `history` shows them."""
        rows = await self._database.fetch(SQL["history"], workflow_key, after, limit)
        return [history_line(row["version"], row["body"], row["committed_at"]) for row in rows]

    async def explain(self, action_id: UUID) -> list[dict[str, Any]]:
        """Return what became of an action id, one object for each key it was used on."""
        committed = await self._database.fetch(SQL["explain_committed"], action_id)
        gave_up = await self._database.fetch(SQL["explain_gave_up"], action_id)
        found: list[dict[str, Any]] = []
        for row in committed:
            intents = await self._database.fetch(
                SQL["explain_intents"], row["partition"], action_id
            )
            line = history_line(row["version"], row["body"], row["committed_at"])
            found.append(
                {
                    "outcome": "StateCommitted",
                    "workflow_key": row["workflow_key"],
                    "partition": row["partition"],
                    "commit_offset": row["offset"],
                    **line,
                    "intents": [_intent_line(intent) for intent in intents],
                }
            )
        for row in gave_up:
            body = orjson.loads(row["body"])
            found.append(
                {
                    "outcome": "ReducerGaveUp",
                    "workflow_key": row["workflow_key"],
                    "partition": row["partition"],
                    "offset": row["offset"],
                    "version": row["version"],
                    "reason": body["reason"],
                    "detail": body["detail"],
                    "attempts": body["attempts"],
                    "action": body["action"],
                    "given_up_at": row["given_up_at"],
                    "intents": [],
                }
            )
        return found


def history_line(version: int, body: str, committed_at: datetime) -> dict[str, Any]:
    """Return an entry of `state-committed` as `history` shows it."""
    entry = orjson.loads(body)
    return {
        "version": version,
        "action": entry["action"],
        "result_hash": entry["result_hash"],
        "chain": entry["chain"],
        "committed_at": committed_at,
    }


def _intent_line(row: Any) -> dict[str, Any]:  # noqa: ANN401 - asyncpg ships no types
    return {
        "intent_id": plain_uuid(row["intent_id"]),
        "intent_type": row["intent_type"],
        "target": row["target"],
        "payload": orjson.loads(row["body"])["payload"],
    }
