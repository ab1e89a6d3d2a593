"""Every implementation of the ports, for tests that ask each of them to keep the same promises.

- `ports` is a test's parameter: the test runs once with the world in memory, once with PostgreSQL.
  Each is new, with two partitions, segments of four entries and leases of five seconds.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

import orjson
import pytest

from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.services.action_dedup import ActionDedupService
from omninode_bridge.services.canonical_store import CanonicalStoreService
from omninode_bridge.services.command_positions import CommandPositionService
from omninode_bridge.services.effect_store import EffectStoreService
from omninode_bridge.services.event_log import (
    ActionLogService,
    EventLogService,
    IntentLogService,
    TimerService,
)
from omninode_bridge.services.leases import EffectClaimService, LeaseService
from omninode_bridge.services.members import MemberService
from omninode_bridge.services.projection_log import ProjectionLogService
from omninode_bridge.services.relayed_log import RelayedLogService
from omninode_bridge.services.taken_over import TakenOverService
from omninode_bridge.services.transition_log import TransitionLogService
from omninode_bridge.services.wakes import WakeService
from omninode_bridge.testing import MemoryWorld, SettableClock
from tests.bridges import WAIT_S, app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omninode_bridge.ports import (
        ActionLog,
        CanonicalStore,
        CommandPositions,
        EffectClaims,
        EffectEnds,
        EffectLog,
        IntentLog,
        Leases,
        Members,
        OutcomeCleaning,
        ParkedEffects,
        ProjectionLog,
        RelayedLog,
        RememberedOutcomes,
        SegmentCleaning,
        StateReplacing,
        TakenOver,
        Timers,
        TransitionLog,
        Wakes,
    )

PARTITIONS: Final = 2
LEASE: Final = timedelta(seconds=5)
SEGMENT_ENTRIES: Final = 4
AT: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
CODEC: Final = CanonicalCodec()
KEY_TYPES: Final = app.key_types() | {
    "fenced": replace(app.key_types()["counter"], name="fenced", fenced=True)
}
"""Of who replaces states: `counter:...` counts (tests/bridges.py), and so does `fenced:...`."""


class Beside(Protocol):
    """What a test has to do or see of a store beside its ports."""

    async def let_pass(self, time: timedelta) -> None:
        """Let `time` pass on the store's clock."""
        ...

    async def until_it_waits(self, task: asyncio.Task[Any]) -> None:
        """Return when `task` waits for a lock, or is done."""
        ...

    async def register(self, consumer: str, topic: str, partition: int, home: int) -> None:
        """Register a consumer of a transient topic."""
        ...

    async def retire(self, consumer: str, topic: str) -> None:
        """Retire a consumer."""
        ...

    async def now(self) -> datetime:
        """Return the time of the store's clock."""
        ...

    async def redrive(self, partition: int, intent_id: UUID) -> bool:
        """Try a dead effect again; return whether it was dead."""
        ...

    async def transitions(self, partition: int) -> list[tuple[int, dict[str, Any]]]:
        """Return offset and transition of each entry of the `fsm-state-transitioned` log."""
        ...

    async def row(self, workflow_key: str) -> tuple[int, str, str] | None:
        """Return version, tag and last action of a projected row."""
        ...

    async def gave_up(self, partition: int) -> list[tuple[UUID, str]]:
        """Return id and reason of each entry of the `reducer-gave-up` log."""
        ...


@dataclass(frozen=True)
class Ports:
    """All ports over one store, and what is beside them."""

    store: CanonicalStore
    remembered: RememberedOutcomes
    actions: ActionLog
    intents: IntentLog
    projections: ProjectionLog
    leases: Leases
    claims: EffectClaims
    members: Members
    wakes: Wakes
    outcomes: OutcomeCleaning
    segments: SegmentCleaning
    timers: Timers
    effect_log: EffectLog
    parked_effects: ParkedEffects
    effect_ends: EffectEnds
    transitions: TransitionLog
    replacing: StateReplacing
    relayed: RelayedLog
    taken_over: TakenOver
    command_positions: CommandPositions
    beside: Beside


class _BesideMemory:
    def __init__(self, world: MemoryWorld, clock: SettableClock) -> None:
        self._world = world
        self._clock = clock

    async def let_pass(self, time: timedelta) -> None:
        self._clock.advance(time)

    async def until_it_waits(self, task: asyncio.Task[Any]) -> None:
        # Nothing there waits but for a lock: who was given turns and is not done waits for one.
        for _ in range(5):
            if not task.done():
                await asyncio.sleep(0)

    async def register(self, consumer: str, topic: str, partition: int, home: int) -> None:
        self._world.register(consumer, topic, partition, home)

    async def retire(self, consumer: str, topic: str) -> None:
        self._world.retire(consumer, topic)

    async def now(self) -> datetime:
        return self._clock()

    async def redrive(self, partition: int, intent_id: UUID) -> bool:
        return self._world.effects.redrive(partition, intent_id)

    async def transitions(self, partition: int) -> list[tuple[int, dict[str, Any]]]:
        logged = self._world.transitions(partition)
        return [(entry.offset, CODEC.decode(entry.transition)) for entry in logged]

    async def row(self, workflow_key: str) -> tuple[int, str, str] | None:
        entry = self._world.projection(workflow_key)
        return None if entry is None else (entry.version, entry.projection.tag, entry.action_type)

    async def gave_up(self, partition: int) -> list[tuple[UUID, str]]:
        return [(outcome.action_id, outcome.reason) for outcome in self._world.gave_up(partition)]


class _BesidePostgres:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._log = EventLogService(database)

    async def let_pass(self, time: timedelta) -> None:
        await self._database.execute(
            "UPDATE event_log_partitions SET lease_until = lease_until - $1::INTERVAL", time
        )
        await self._database.execute(
            "UPDATE action_dedup_log SET expires_at = expires_at - $1::INTERVAL", time
        )
        await self._database.execute(
            "UPDATE event_log_members SET seen_until = seen_until - $1::INTERVAL", time
        )
        await self._database.execute("UPDATE timers SET due_at = due_at - $1::INTERVAL", time)
        await self._database.execute("UPDATE effects SET due_at = due_at - $1::INTERVAL", time)

    async def until_it_waits(self, task: asyncio.Task[Any]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not task.done():
                waiting = await self._database.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
                if waiting:
                    return
                await asyncio.sleep(0.001)

    async def register(self, consumer: str, topic: str, partition: int, home: int) -> None:
        await self._log.register(consumer, topic, partition, home)

    async def retire(self, consumer: str, topic: str) -> None:
        await self._log.retire(consumer, topic)

    async def now(self) -> datetime:
        now: datetime = await self._database.fetchval("SELECT clock_timestamp()")
        return now

    async def redrive(self, partition: int, intent_id: UUID) -> bool:
        was_dead: bool = await self._database.fetchval(
            "SELECT effects_redrive($1, $2)", partition, intent_id
        )
        return was_dead

    async def transitions(self, partition: int) -> list[tuple[int, dict[str, Any]]]:
        rows = await self._database.fetch(
            'SELECT "offset", body::TEXT AS body FROM event_log_fsm_state_transitioned'
            ' WHERE partition = $1 ORDER BY "offset"',
            partition,
        )
        return [(row["offset"], orjson.loads(row["body"])["transition"]) for row in rows]

    async def row(self, workflow_key: str) -> tuple[int, str, str] | None:
        row = await self._database.fetchrow(
            "SELECT version, tag, last_action FROM workflow_projection WHERE workflow_key = $1",
            workflow_key,
        )
        return None if row is None else (row["version"], row["tag"], row["last_action"])

    async def gave_up(self, partition: int) -> list[tuple[UUID, str]]:
        rows = await self._database.fetch(
            'SELECT "offset", action_id, body::TEXT AS body FROM event_log_reducer_gave_up'
            ' WHERE partition = $1 ORDER BY "offset"',
            partition,
        )
        assert [row["offset"] for row in rows] == list(range(1, len(rows) + 1))
        return [
            (UUID(bytes=row["action_id"].bytes), orjson.loads(row["body"])["reason"])
            for row in rows
        ]


def memory() -> Ports:
    """Return the ports of a new world in memory."""
    clock = SettableClock(AT)
    world = MemoryWorld(
        clock=clock,
        partitions=PARTITIONS,
        lease=LEASE,
        segment_entries=SEGMENT_ENTRIES,
        key_types=KEY_TYPES,
    )
    return Ports(
        world.store,
        world.store,
        world.actions,
        world.intents,
        world.projections,
        world.leases,
        world.claims,
        world.members,
        world.wakes,
        world.outcomes,
        world.segments,
        world.timers,
        world.effects,
        world.effects,
        world.effects,
        world.transition_log,
        world.store,
        world.relayed,
        world.taken_over,
        world.command_positions,
        _BesideMemory(world, clock),
    )


@asynccontextmanager
async def postgres(database_url: str) -> AsyncIterator[Ports]:
    """Yield the ports of PostgreSQL on a new migrated database."""
    async with (
        Database({"dsn": database_url}, connections_max=6) as database,
        aclosing(WakeService(database, {"dsn": database_url})) as wakes,
    ):
        log = EventLogService(database)
        effects = EffectStoreService(database, CODEC, segment_entries=SEGMENT_ENTRIES)
        await log.create_partitions(PARTITIONS)
        store = CanonicalStoreService(
            database,
            CODEC,
            partitions=PARTITIONS,
            key_types=KEY_TYPES,
            lease=LEASE,
            segment_entries=SEGMENT_ENTRIES,
        )
        yield Ports(
            store,
            store,
            ActionLogService(database, CODEC, segment_entries=SEGMENT_ENTRIES),
            IntentLogService(database, CODEC),
            ProjectionLogService(database, CODEC),
            LeaseService(database, PARTITIONS),
            EffectClaimService(database),
            MemberService(database),
            wakes,
            ActionDedupService(database),
            log,
            TimerService(database, segment_entries=SEGMENT_ENTRIES),
            effects,
            effects,
            effects,
            TransitionLogService(database, CODEC, partitions=PARTITIONS),
            store,
            RelayedLogService(database),
            TakenOverService(database, segment_entries=SEGMENT_ENTRIES),
            CommandPositionService(database),
            _BesidePostgres(database),
        )


@pytest.fixture
def memory_ports() -> Ports:
    """Give the ports of a new world in memory."""
    return memory()


@pytest.fixture
async def postgres_ports(database_url: str) -> AsyncIterator[Ports]:
    """Give the ports of PostgreSQL on a database of this test alone."""
    async with postgres(database_url) as ports:
        yield ports


@pytest.fixture(params=["memory", "postgres"])
def ports(request: pytest.FixtureRequest) -> Ports:
    """Give the ports of one implementation after the other."""
    found: Ports = request.getfixturevalue(f"{request.param}_ports")
    return found
