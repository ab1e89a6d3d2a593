"""Effects on PostgreSQL: what is to be done, what waits, and how it ended.

Rule 1: ends, parked effects, follow-ups and the position become durable in one transaction of the
        effect's own partition (R11), by its owner only (R12); proof: migration 011.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

from omninode_bridge.core.effects import LoggedIntent, OpenEffect
from omninode_bridge.core.sharing import LEASE
from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.postgres.database import plain_uuid
from omninode_bridge.infrastructure.postgres.rows import columns, logged_intent
from omninode_bridge.infrastructure.postgres.statements import Statements
from omninode_bridge.ports import CutOff, EffectPage, EffectsBegun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import timedelta
    from uuid import UUID

    import asyncpg

    from omninode_bridge.core.effects import EndedEffect, ParkedEffect
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "effect_store.sql")

SEGMENT_ENTRIES: Final = 200_000


class EffectStoreService:
    """Implements the ports `EffectLog`, `ParkedEffects` and `EffectEnds`."""

    def __init__(
        self,
        database: Database,
        codec: Codec,
        *,
        handlers: Database | None = None,
        lease: timedelta = LEASE,
        segment_entries: int = SEGMENT_ENTRIES,
    ) -> None:
        """`segment_entries` is how many intents a segment of their log holds.

        A transaction that has ended an effect, and does not end itself within `lease`, is undone.

        `handlers` are the connections that are lent to transactional handlers: others than
        `database`, so that slow ones leave the loops theirs, and reset when they come back.
        """
        self._database = database
        self._handlers = handlers or database
        self._codec = codec
        self.silence_ms = str(round(lease.total_seconds() * 1000))
        self._segment_entries = segment_entries

    async def begin(self, partition: int, ordered: Sequence[str]) -> EffectsBegun:
        """Return where the effects of a partition stand; `ordered` are types to count."""
        stand = await self._database.fetchrow(SQL["begin"], partition)
        assert stand is not None, "the partitions are made with their positions"
        position: int = stand["next"]
        over = await self._database.fetch(SQL["over"], partition, position)
        waiting = await self._database.fetch(SQL["waiting"], partition, list(ordered))
        return EffectsBegun(
            position,
            stand["head"],
            frozenset(row["offset"] for row in over),
            [(row["intent_type"], row["workflow_key"], row["offset"]) for row in waiting],
        )

    async def read(self, partition: int, position: int, limit: int) -> EffectPage | CutOff:
        """Return up to `limit` intents for effects from `position` on."""
        rows = await self._database.fetch(SQL["read"], partition, position, limit)
        if position < rows[0]["low"]:
            return CutOff(rows[0]["low"])
        entries = [logged_intent(row, self._codec) for row in rows if row["offset"] is not None]
        following = entries[-1].offset + 1 if len(entries) == limit else rows[0]["head"]
        return EffectPage(entries, following)

    async def due(
        self, partition: int, types: Mapping[str, int], ordered: Sequence[str], busy: Sequence[int]
    ) -> tuple[Sequence[OpenEffect], float | None]:
        """Return those that are due, at most so many of each type, and the seconds to the next."""
        names, rooms = list(types), list(types.values())
        rows = await self._database.fetch(
            SQL["due"], partition, names, rooms, list(ordered), list(busy)
        )
        next_s = await self._database.fetchval(SQL["next_due"], partition, names, list(busy))
        return [self._open(row) for row in rows], next_s

    async def find(self, partition: int, intent_id: UUID) -> OpenEffect | None:
        """Return the waiting effect of an intent, or None when none is parked."""
        row = await self._database.fetchrow(SQL["find"], partition, intent_id)
        return None if row is None else self._open(row)

    async def settle(
        self,
        partition: int,
        owner: UUID | None,
        ended: Sequence[EndedEffect],
        parked: Sequence[ParkedEffect],
        position: int,
    ) -> bool:
        """Make ends, parked ones, follow-ups and position durable together; False: not owner."""
        arguments = self._arguments(partition, owner, ended, parked, position)
        return await self._database.fetchval(SQL["settle"], *arguments) is not None

    @asynccontextmanager
    async def transaction(
        self, partition: int, owner: UUID | None
    ) -> AsyncIterator[_EffectTransaction]:
        """Open a transaction; it ends with the context."""
        async with self._handlers.transaction() as connection:
            yield _EffectTransaction(self, connection, partition, owner)

    async def of_action(self, action_id: UUID) -> Mapping[UUID, list[dict[str, Any]]]:
        """Return how the effects of an action's intents ended, by intent id."""
        found: dict[UUID, list[dict[str, Any]]] = {}
        for row in await self._database.fetch(SQL["of_action"], action_id):
            line = {name: row[name] for name in ("status", "attempts", "detail", "finished_at")}
            if row["due_at"] is not None:
                line["due_at"] = row["due_at"]
            found.setdefault(plain_uuid(row["intent_id"]), []).append(line)
        return found

    def _arguments(
        self,
        partition: int,
        owner: UUID | None,
        ended: Sequence[EndedEffect],
        parked: Sequence[ParkedEffect],
        position: int,
    ) -> tuple[object, ...]:
        """Return the arguments of the settle function, in the order of migration 011."""
        follow_ups: list[tuple[object, ...]] = [
            (
                end.effect.entry.offset,
                intent.intent_id,
                intent.intent_type,
                intent.target,
                end.effect.entry.workflow_key,
                end.effect.entry.action_id,
                wire.follow_up_text(intent, end.effect.entry.depth, _correlation(end.effect.entry)),
            )
            for end in ended
            for intent in end.follow_ups
        ]
        waits: list[tuple[object, ...]] = [
            (
                wait.effect.entry.offset,
                wait.effect.redriven,
                "waiting",
                wait.attempts,
                wait.due_at,
                wait.due_in_s,
                wait.detail,
            )
            for wait in parked
        ]
        waits += [
            (e.effect.entry.offset, e.effect.redriven, "dead", e.attempts, None, 0.0, e.detail)
            for e in ended
            if e.status == "dead"
        ]
        return (
            partition,
            owner,
            self._segment_entries,
            position,
            *columns([_end_row(end) for end in ended], 9),
            [e.effect.entry.offset for e in ended if e.effect.parked and e.status != "dead"],
            *columns(waits, 7),
            *columns(follow_ups, 7),
        )

    def _open(self, row: Any) -> OpenEffect:  # noqa: ANN401 - asyncpg ships no types
        return OpenEffect(
            logged_intent(row, self._codec),
            row["attempts"],
            row["redriven"],
            parked=True,
            maybe_begun=row["maybe_begun"],
            detail=row["detail"],
        )


class _EffectTransaction:
    """Implements the port `EffectTransaction`."""

    def __init__(
        self,
        store: EffectStoreService,
        connection: asyncpg.Connection,
        partition: int,
        owner: UUID | None,
    ) -> None:
        self.connection = connection
        self._store = store
        self._partition = partition
        self._owner = owner

    async def end(self, ended: EndedEffect) -> Literal["ended", "over", "not_owner"]:
        arguments = self._store._arguments(self._partition, self._owner, [ended], [], 0)  # noqa: SLF001 - one idea in two classes: a transaction needs its connection
        held = (*arguments, self._store.silence_ms)
        new = await self.connection.fetchval(SQL["settle_held"], *held)
        if new is None:
            return "not_owner"
        return "ended" if new else "over"


def _end_row(end: EndedEffect) -> tuple[object, ...]:
    entry = end.effect.entry
    return (
        entry.offset,
        end.effect.redriven,
        entry.intent.intent_id,
        entry.intent.intent_type,
        entry.workflow_key,
        entry.action_id,
        end.status,
        end.attempts,
        end.detail,
    )


def _correlation(entry: LoggedIntent) -> UUID:
    return entry.correlation_id or entry.action_id
