"""Changes the number of partitions of a database at rest: every key moves whole, with its history.

Rule 1: one transaction: killed at any point, it is the old database or the new one (R2).
Rule 2: it drains nothing. What is transient has to be empty, and nobody may be there; if not, it
        says what is in the way, and has changed nothing.
Rule 3: nobody goes on by the old number. The log becomes another incarnation, and leases end; who
        stood still meanwhile, or comes in the middle, is refused or waits (R12).
Rule 4: here, and here only, a transaction writes rows of several partitions (R11): they are all on
        one server, and nobody else is there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import BrokenPromise
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.topics import RELAYED
from omninode_bridge.infrastructure.postgres.database import APPLICATION_NAME
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import asyncpg

    from omninode_bridge.infrastructure.postgres.database import Database

    FindUnread = Callable[[Sequence["TakenOverFrom"]], Awaitable[list[str]]]

SQL: Final = Statements("omninode_bridge.services", "repartition.sql")

SEGMENT_ENTRIES: Final = 200_000
STEP_TIMEOUT_S: Final = 86_400.0
"""Of one statement: a bound, beyond which a day's work is taken for hanging (R13)."""
LEAVING_WAIT_S: Final = 2.0
"""How long a session may take to end that its process has closed: the server ends it on its own."""
LEAVING_LOOK_S: Final = 0.05
_RELAYED: Final = (list(RELAYED), list(RELAYED.values()))
OURS: Final = frozenset({"reducer", "dispatcher", "effects", "projection"})


@dataclass(frozen=True, slots=True)
class Repartitioning:
    """What was done, or what was in the way of it.

    `partitions` is how many there are now, `partitions_before` how many there were. With
    `obstacles` nothing was changed. `keys` have moved or stayed, with `entries` of history,
    `effects` that wait or are dead, and `timers`; all are 0 where there was nothing to do.
    """

    partitions_before: int
    partitions: int
    obstacles: list[str] = field(default_factory=list)
    keys: int = 0
    entries: int = 0
    effects: int = 0
    timers: int = 0


@dataclass(frozen=True, slots=True)
class TakenOverFrom:
    """Where the intake is in one partition of a bus's topic: `next` is an offset there."""

    topic: str
    partition: int
    incarnation: str
    next: int


class RepartitionService:
    """Changes the number of partitions. Nobody else may use `database` meanwhile."""

    def __init__(
        self,
        database: Database,
        *,
        unread: FindUnread,
        segment_entries: int = SEGMENT_ENTRIES,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`progress` is told each step in words; a segment of intents holds `segment_entries`.

        `unread` says what a bus still has behind the positions up to which actions were taken over,
        or why nobody knows: in words, nothing when there is nothing.
        """
        self._database = database
        self._unread = unread
        self._segment_entries = segment_entries
        self._progress = progress

    async def present(self) -> int | None:
        """Return how many partitions there are; None: they were never made."""
        partitions: int | None = await self._database.fetchval(SQL["present"])
        return partitions

    async def repartition(self, partitions: int, *, alone: bool = False) -> Repartitioning:
        """Have `partitions` (1 to 256) partitions from now on, all or nothing.

        `alone`: we hold the data folder's writer lock, so leases that are left are a dead one's.

        Raises:
            DatabaseUnavailable: somebody holds a lock that is needed for more than 5 s, or the
                connection was lost. Nothing was changed, unless it was lost at the very end: ask
                again, it is done then.
            BrokenPromise: what is stored does not fit together: run `verify`. Nothing was changed.
        """
        # Looked at without a lock first: who is at work is not to be held up by a slip of the pen.
        async with self._database.connection() as connection:
            before = await connection.fetchval(SQL["present"])
            obstacles = await self._obstacles(connection, alone=alone)
        if obstacles:
            return Repartitioning(before, before, obstacles)
        async with self._database.transaction() as connection:
            for name in (SQL["set_timeouts"], SQL["lift_time_limits"], SQL["take_turn"]):
                await connection.execute(name)
            for name in (SQL["stop_rebuilds"], SQL["lock_tables"], SQL["lock_transient"]):
                await connection.execute(name)
            before = await connection.fetchval(SQL["present"])
            obstacles = await self._obstacles(connection, alone=alone)
            if obstacles or before == partitions:
                return Repartitioning(before, before, obstacles)
            return await self._change(connection, before, partitions)

    # -- what is in the way ------------------------------------------------------------------------

    async def _obstacles(self, connection: asyncpg.Connection, *, alone: bool) -> list[str]:
        """Return what is in the way, in words that say what to do."""
        running = [] if alone else await self._running(connection)
        if running:
            return running
        return [
            *await self._sessions(connection),
            *[
                _behind(row["topic"], row["consumer"], row["entries"])
                for row in await connection.fetch(SQL["behind"])
            ],
            *[
                f"consumer {row['consumer']!r} of topic {row['topic']!r} is registered in some"
                " partitions only, and of the new ones nobody knows which are meant: retire it"
                for row in await connection.fetch(SQL["readers_of_some"])
            ],
            *[
                _behind_the_bus(row["topic"], row["entries"], row["incarnations"])
                for row in await connection.fetch(SQL["behind_the_bus"], *_RELAYED)
            ],
            *await self._unread(
                [TakenOverFrom(**row) for row in await connection.fetch(SQL["taken_over"])]
            ),
        ]

    async def _running(self, connection: asyncpg.Connection) -> list[str]:
        """Return the processes that are there, by their leases, or by their word alone."""
        return [
            *[
                f"{row['owner_name']} holds {row['partitions']} partitions: stop it"
                for row in await connection.fetch(SQL["owners"])
            ],
            *[f"{row['name']} runs: stop it" for row in await connection.fetch(SQL["members"])],
        ]

    async def _sessions(self, connection: asyncpg.Connection) -> list[str]:
        """Return the sessions of other bridges that do not end by themselves at once."""
        deadline = monotonic() + LEAVING_WAIT_S
        while rows := await connection.fetch(SQL["sessions"], APPLICATION_NAME):
            if monotonic() >= deadline:
                return [
                    f"another bridge is connected (backend {row['pid']}, from"
                    f" {row['client'] or 'this machine'}): stop it"
                    for row in rows
                ]
            await asyncio.sleep(LEAVING_LOOK_S)
        return []

    # -- the change --------------------------------------------------------------------------------

    async def _change(
        self, connection: asyncpg.Connection, before: int, partitions: int
    ) -> Repartitioning:
        there = dict(await connection.fetchrow(SQL["counts"], timeout=STEP_TIMEOUT_S))
        await self._run(connection, "", SQL["drop_generation"], SQL["make_keys"])
        keys = await self._place_keys(connection, partitions)
        await self._run(connection, "", SQL["analyze_keys"], SQL["make_consumers"])
        await self._run(connection, "", SQL["make_relays"], SQL["forget_members"])
        await self._run(
            connection,
            f"{there['state_committed']:,} commits",
            SQL["make_state_committed"],
            SQL["take_state_committed"],
            SQL["put_state_committed"],
        )
        await self._run(
            connection,
            f"{there['reducer_gave_up']:,} give-ups,"
            f" {there['fsm_state_transitioned']:,} transitions",
            *(SQL["make_gave_up"], SQL["take_gave_up"], SQL["put_gave_up"]),
            *(SQL["make_transitions"], SQL["take_transitions"], SQL["put_transitions"]),
        )
        await self._run(
            connection,
            f"{there['effects'] + there['effect_log']:,} effects, {there['intent']:,} intents",
            *(SQL["place_intents"], SQL["analyze_intents"]),
            *(SQL["make_effects"], SQL["take_effects"], SQL["put_effects"]),
            *(SQL["make_effect_log"], SQL["take_effect_log"], SQL["put_effect_log"]),
            *(SQL["make_intents"], SQL["take_intents"]),
        )
        await self._make_partitions(connection, partitions)
        await self._run(connection, f"{there['timers']:,} timers", SQL["move_timers"])
        await self._run(connection, "remembered outcomes", SQL["move_outcomes"])
        await self._require_all(connection, there)
        await self._run(connection, "statistics", SQL["analyze"])
        return Repartitioning(
            before,
            partitions,
            keys=keys,
            entries=there["state_committed"] + there["reducer_gave_up"],
            effects=there["effects"],
            timers=there["timers"],
        )

    async def _run(self, connection: asyncpg.Connection, what: str, *statements: str) -> None:
        if what:
            self._progress(what)
        for statement in statements:
            await connection.execute(statement, timeout=STEP_TIMEOUT_S)

    async def _place_keys(self, connection: asyncpg.Connection, partitions: int) -> int:
        """Store where each key will be, some at a time; return how many there are.

        Here and not in SQL: there is one function that says where a key belongs.
        """
        self._progress("keys")
        keys = 0
        await connection.execute(SQL["declare_keys"], timeout=STEP_TIMEOUT_S)
        while rows := await connection.fetch(SQL["fetch_keys"], timeout=STEP_TIMEOUT_S):
            await connection.copy_records_to_table(
                "repartition_keys",
                records=[(key, partition_of(key, partitions)) for (key,) in rows],
                columns=("workflow_key", "partition"),
            )
            keys += len(rows)
        await connection.execute(SQL["close_keys"])
        return keys

    async def _make_partitions(self, connection: asyncpg.Connection, partitions: int) -> None:
        """Make tables, heads, positions and watermarks of the new partitions, and say so."""
        await connection.execute(SQL["make_transient_tables"], partitions)
        await self._run(connection, "", SQL["forget_partitions"], SQL["forget_action_heads"])
        await connection.execute(SQL["write_action_heads"], partitions)
        await connection.execute(SQL["write_partitions"], partitions, timeout=STEP_TIMEOUT_S)
        while (row := await connection.fetchrow(SQL["next_segment"])) is not None:
            await connection.execute(SQL["add_segment"], *row, self._segment_entries)
        await self._run(
            connection,
            "",
            SQL["put_intents"],
            *(SQL["forget_positions"], SQL["write_positions"]),
            *(SQL["forget_watermarks"], SQL["write_watermarks"]),
            *(SQL["forget_relays"], SQL["forget_strays"]),
        )
        await connection.execute(SQL["write_relays"], *_RELAYED)
        await connection.execute(SQL["write_number"], partitions)

    async def _require_all(self, connection: asyncpg.Connection, before: dict[str, int]) -> None:
        """Refuse to have lost a row."""
        after = dict(await connection.fetchrow(SQL["counts"], timeout=STEP_TIMEOUT_S))
        if after != before:
            message = (
                f"of {before} only {after} have a place among the new partitions: nothing was"
                " changed; run `omninode-bridge verify`"
            )
            raise BrokenPromise(message)


def _behind_the_bus(topic: str, entries: int, incarnations: int) -> str:
    if incarnations > 1:
        return f"topic {topic!r} was made again: `omninode-bridge bus forget {topic}`"
    return (
        f"{entries:,} entries are still to be relayed to topic {topic!r}: let a bridge run with its"
        f" Kafka until they are, or, where it is used no more, `omninode-bridge bus forget {topic}`"
    )


def _behind(topic: str, consumer: str, entries: int) -> str:
    left = f"{consumer!r} has {entries:,} entries of topic {topic!r} still to read"
    if consumer in OURS:
        return f"{left}: open a bridge with your App, and close it when it has settled"
    return f"{left}: let it read them, or retire it"
