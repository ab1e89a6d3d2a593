"""Effects in memory: implements `EffectLog`, `ParkedEffects` and `EffectEnds`.

None of these calls waits but for the partition's lock: each is done whole before anybody else's.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from omninode_bridge.core.effects import LoggedIntent, OpenEffect
from omninode_bridge.core.message import FOLLOW_UPS
from omninode_bridge.ports import CutOff, EffectPage, EffectsBegun
from omninode_bridge.testing.tables import EffectRow
from omninode_bridge.testing.values import check_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from uuid import UUID

    from omninode_bridge.core.effects import EndedEffect, ParkedEffect
    from omninode_bridge.ports import Clock
    from omninode_bridge.testing.interruptions import Interruptions
    from omninode_bridge.testing.tables import Partition, Tables


class MemoryEffects:
    """Implements the ports of effects, by the clock of the world."""

    def __init__(self, tables: Tables, interruptions: Interruptions, clock: Clock) -> None:
        """Read from and write to `tables`."""
        self._tables = tables
        self._interruptions = interruptions
        self._clock = clock

    async def begin(self, partition: int, ordered: Sequence[str]) -> EffectsBegun:
        """Return where the effects of a partition stand; `ordered` are types in lanes."""
        with self._interruptions.around("effects.begin"):
            here = self._tables.partition(partition)
            position = self._tables.positions["effects", "intent", partition, partition]
            over = {offset for offset, _ in here.effects_ended if offset >= position}
            over |= {offset for offset in here.effects if offset >= position}
            waiting = [
                (*_lane(row), offset)
                for offset, row in here.effects.items()
                if row.effect.entry.intent.intent_type in ordered and self._holds_back(row)
            ]
            return EffectsBegun(position, here.intents.head, frozenset(over), waiting)

    async def read(self, partition: int, position: int, limit: int) -> EffectPage | CutOff:
        """Return up to `limit` intents for effects from `position` on."""
        with self._interruptions.around("effects.read"):
            log = self._tables.partition(partition).intents
            found = log.read(position, log.head)
            if isinstance(found, CutOff):
                return found
            entries = [e for e in found if e.intent.intent_type not in FOLLOW_UPS][:limit]
            return EffectPage(
                entries, entries[-1].offset + 1 if len(entries) == limit else log.head
            )

    async def due(
        self, partition: int, types: Mapping[str, int], ordered: Sequence[str], busy: Sequence[int]
    ) -> tuple[Sequence[OpenEffect], float | None]:
        """Return those that are due, at most so many of each type, and the seconds to the next."""
        with self._interruptions.around("effects.due"):
            now, rows = self._clock(), self._tables.partition(partition).effects
            waiting = [row for row in rows.values() if row.status == "waiting"]
            due: list[OpenEffect] = []
            for name, room in types.items():
                theirs = [
                    row
                    for row in waiting
                    if row.effect.entry.intent.intent_type == name
                    and row.due_at <= now
                    and row.offset not in busy
                    and (name not in ordered or self._is_first(row, waiting))
                ]
                theirs.sort(key=lambda row: (row.due_at, row.offset))
                due += [replace(row.effect, maybe_begun=True) for row in theirs[:room]]
            later = [
                row.due_at
                for row in waiting
                if row.effect.entry.intent.intent_type in types
                and row.due_at > now
                and row.offset not in busy
            ]
            return due, (min(later) - now).total_seconds() if later else None

    async def find(self, partition: int, intent_id: UUID) -> OpenEffect | None:
        """Return the waiting effect of an intent, or None when none is parked."""
        with self._interruptions.around("effects.find"):
            rows = self._tables.partition(partition).effects.values()
            found = (row for row in rows if row.effect.entry.intent.intent_id == intent_id)
            row = next((row for row in found if row.status == "waiting"), None)
            if row is None:
                return None
            begun = row.due_at <= self._clock() or row.due_at != row.effect.entry.due_at
            return replace(row.effect, maybe_begun=begun)

    async def settle(
        self,
        partition: int,
        owner: UUID | None,
        ended: Sequence[EndedEffect],
        parked: Sequence[ParkedEffect],
        position: int,
    ) -> bool:
        """Make ends, parked ones, follow-ups and position durable together; False: not owner."""
        with self._interruptions.around("effects.settle"):
            here = self._tables.partition(partition)
            async with here.lock:
                if not _owns(here, owner):
                    return False
                self._settle(here, ended, parked)
                consumer = ("effects", "intent", partition, partition)
                self._tables.positions[consumer] = max(self._tables.positions[consumer], position)
                return True

    @asynccontextmanager
    async def transaction(
        self, partition: int, owner: UUID | None
    ) -> AsyncIterator[MemoryEffectTransaction]:
        """Open a transaction; its `connection` is a list of what to do when it becomes durable."""
        with self._interruptions.around("effects.transaction"):
            here = self._tables.partition(partition)
            transaction = MemoryEffectTransaction(here, owner)
            yield transaction
            async with here.lock:
                if transaction.ended is not None and _owns(here, owner):
                    self._settle(here, [transaction.ended], [])
                    for act in transaction.connection:
                        act()

    def dead(self, partition: int) -> list[OpenEffect]:
        """Return the dead effects of a partition."""
        rows = self._tables.partition(partition).effects.values()
        return [row.effect for row in rows if row.status == "dead"]

    def redrive(self, partition: int, intent_id: UUID) -> bool:
        """Try a dead effect again, from its first attempt on; return whether it was dead."""
        here = self._tables.partition(partition)
        for offset, row in here.effects.items():
            is_it = row.effect.entry.intent.intent_id == intent_id
            if is_it and row.status == "dead":
                again = replace(row.effect, attempts=0, redriven=row.effect.redriven + 1)
                here.effects[offset] = EffectRow(again, "waiting", self._clock())
                return True
        return False

    def _settle(
        self, here: Partition, ended: Sequence[EndedEffect], parked: Sequence[ParkedEffect]
    ) -> None:
        new = {
            (end.effect.entry.offset, end.effect.redriven): end
            for end in ended
            if (end.effect.entry.offset, end.effect.redriven) not in here.effects_ended
        }
        for end in ended:
            check_text(end.detail)
            if end.effect.parked and end.status != "dead":
                here.effects.pop(end.effect.entry.offset, None)
        for end in new.values():
            offset = end.effect.entry.offset
            here.effects_ended[offset, end.effect.redriven] = end
            if end.status == "dead":
                again = replace(end.effect, attempts=end.attempts, detail=end.detail, parked=True)
                here.effects[offset] = EffectRow(again, "dead", self._clock())
            for intent in end.follow_ups:
                entry = end.effect.entry
                head, correlation_id = here.intents.head, entry.correlation_id or entry.action_id
                inherited = (entry.action_id, correlation_id, entry.depth, self._clock())
                here.intents.extend([LoggedIntent(head, intent, *inherited, entry.workflow_key)])
        for wait in parked:
            offset = wait.effect.entry.offset
            if (offset, wait.effect.redriven) not in here.effects_ended:
                due_at = wait.due_at or self._clock() + timedelta(seconds=wait.due_in_s)
                again = replace(
                    wait.effect, attempts=wait.attempts, detail=wait.detail, parked=True
                )
                here.effects[offset] = EffectRow(again, "waiting", due_at)

    def _holds_back(self, row: EffectRow) -> bool:
        has_come = row.effect.attempts > 0 or row.due_at <= self._clock()
        return row.status == "waiting" and has_come

    def _is_first(self, row: EffectRow, waiting: Sequence[EffectRow]) -> bool:
        return not any(
            other.offset < row.offset and _lane(other) == _lane(row) and self._holds_back(other)
            for other in waiting
        )


class MemoryEffectTransaction:
    """Implements the port `EffectTransaction`."""

    def __init__(self, here: Partition, owner: UUID | None) -> None:
        """Begin with nothing done."""
        self.connection: list[Callable[[], object]] = []
        self.ended: EndedEffect | None = None
        self._here = here
        self._owner = owner

    async def end(self, ended: EndedEffect) -> Literal["ended", "over", "not_owner"]:
        """End the effect when the transaction ends."""
        if not _owns(self._here, self._owner):
            return "not_owner"
        if (ended.effect.entry.offset, ended.effect.redriven) in self._here.effects_ended:
            return "over"
        self.ended = ended
        return "ended"


def _owns(here: Partition, owner: UUID | None) -> bool:
    if here.effects_claim is not None and here.effects_claim.owner is not None:
        return owner in (None, here.effects_claim.owner)
    return owner is None or (here.lease is not None and here.lease.owner == owner)


def _lane(row: EffectRow) -> tuple[str, str]:
    return (row.effect.entry.intent.intent_type, row.effect.entry.workflow_key)
