"""What remembering costs: the commit rate with many remembered ids, and with none.

    .venv/bin/python benchmarks/remembered_ids.py [--ids 10000000] [--rounds 20] [--folder DIR]

Two databases on one embedded server with its usual durability: in one, `action_dedup_log` is filled
beforehand with random ids (half of them of one hot key, the others of 10,000 keys), in the other it
is emptied before each round. Two things are timed, spread over 10,000 keys and hot:

- the whole bridge, as `omninode-bridge bench` does: its ids are made by the bridge;
- the commit function alone: one connection calls it with ready arguments in batches of 500, once
  with ids as the bridge makes them (in the order of time), once with random ones.

Both databases are measured in every round, in turns, since machines are noisy; what counts is the
ratio of one round. Ten million ids take about 5 GB of disk, and some minutes to fill in.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any, Final, get_args
from uuid import UUID, uuid4

import asyncpg

from omninode_bridge import Bridge
from omninode_bridge.bench import Load, Mode, app
from omninode_bridge.core.commit import Commit
from omninode_bridge.core.message import SealedAction, time_ordered_id
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.reducer import NEVER_SEEN, Snapshot, Step, fold
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer, ServerAddress
from omninode_bridge.services.canonical_store import SQL, CanonicalStoreService
from omninode_bridge.services.event_log import EventLogService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

BATCH: Final = 500
BATCHES: Final = 20
CLIENTS: Final = 1_000
LOAD_S: Final = 3.0
PARTITIONS: Final = 4
FILL_AT_ONCE: Final = 500_000
KEY_TYPE: Final = app.key_types()["bench"]
CODEC: Final = CanonicalCodec()
KEYS: Final = [
    key
    for key in (f"bench:commit/{n}" for n in range(50_000))
    if partition_of(key, PARTITIONS) == 0
][:10_001]
HOT: Final = KEYS.pop()
ANY_KEY: Final[dict[Mode, Callable[[], str]]] = {
    "spread": partial(random.choice, KEYS),
    "hot": partial(str, HOT),
}

FILL: Final = """
INSERT INTO action_dedup_log
    (workflow_key, action_id, request_hash, result_hash, version, outcome, expires_at)
SELECT CASE WHEN n % 2 = 0 THEN $3 ELSE ($2::TEXT[])[1 + n / 2 % cardinality($2::TEXT[])] END,
       gen_random_uuid(), md5(n::TEXT) || md5(n::TEXT), md5(n::TEXT) || md5(n::TEXT), n,
       ('{"event":"StateCommitted","commit_offset":' || n || '}')::JSONB,
       now() + INTERVAL '6 hours'
FROM generate_series(1, $1::INT) n
"""


@dataclass
class Side:
    """A database, its keys' snapshots as the commits have left them, and a connection."""

    url: str
    store: CanonicalStoreService
    connection: asyncpg.Connection
    statement: Any
    snapshots: dict[str, Snapshot]

    async def bridge_rate(self, mode: Mode) -> float:
        """Return the actions that the whole bridge answered in a second."""
        async with Bridge.open(app, database_url=self.url) as bridge:
            load = Load(mode, CLIENTS, LOAD_S)
            bridge.observe(load.observe)
            return (await load.run(bridge, None)).actions_per_s

    async def commit_rate(self, mode: Mode, new_id: Callable[[], UUID]) -> float:
        """Return the actions that the commit function made durable in a second."""
        commits = self.commits(ANY_KEY[mode], new_id)
        calls = [self.store.arguments(commit) for commit in commits]
        began = perf_counter()
        for arguments in calls:
            row = await self.statement.fetchrow(*arguments)
            assert row["refusal"] is None, row["refusal"]
        return BATCH * BATCHES / (perf_counter() - began)

    def commits(self, any_key: Callable[[], str], new_id: Callable[[], UUID]) -> Iterator[Commit]:
        """Yield commits of `BATCH` actions each."""
        for _ in range(BATCHES):
            by_key: dict[str, list[SealedAction]] = {}
            for _ in range(BATCH):
                key = any_key()
                action = SealedAction(new_id(), key, "Counted", b'{"amount":3}', datetime.now(UTC))
                by_key.setdefault(key, []).append(action)
            steps: list[Step] = []
            reads: dict[str, int] = {}
            now = datetime.now(UTC)
            for key, actions in by_key.items():
                before = self.snapshots.get(key, NEVER_SEEN)
                reads[key] = before.version
                self.snapshots[key], made = fold(before, actions, KEY_TYPE, CODEC, now)
                steps += made
            yield Commit(0, None, reads, steps, now, uuid4())


async def open_side(stack: AsyncExitStack, address: ServerAddress) -> Side:
    """Make a migrated database, and connect to it."""
    maker = await asyncpg.connect(**address.connect_arguments)
    name = f"side_{uuid4().hex}"
    await maker.execute(f"CREATE DATABASE {name}")
    await maker.close()
    made = replace(address, database=name)
    connect = made.connect_arguments
    await migrations.upgrade(connect)
    database = await stack.enter_async_context(Database(connect, connections_max=1))
    await EventLogService(database).create_partitions(PARTITIONS)
    connection = await asyncpg.connect(**connect)
    stack.push_async_callback(connection.close)
    store = CanonicalStoreService(database, CODEC, partitions=PARTITIONS)
    return Side(made.url, store, connection, await connection.prepare(SQL["commit"]), {})


async def fill(connection: asyncpg.Connection, ids: int) -> None:
    """Remember `ids` outcomes, as a database does that has been at work for hours."""
    began = perf_counter()
    for done in range(0, ids, FILL_AT_ONCE):
        await connection.execute(FILL, min(FILL_AT_ONCE, ids - done), KEYS, HOT)
        sys.stderr.write(f"\r{done + FILL_AT_ONCE:,} ids, {perf_counter() - began:.0f} s")
    await connection.execute("VACUUM (ANALYZE) action_dedup_log")
    await connection.execute("CHECKPOINT")
    sizes = await connection.fetchrow(
        "SELECT pg_size_pretty(pg_relation_size('action_dedup_log')) AS rows,"
        " pg_size_pretty(pg_indexes_size('action_dedup_log')) AS indexes"
    )
    sys.stderr.write(f"\nrows {sizes['rows']}, indexes {sizes['indexes']}\n")


def made_id() -> UUID:
    """Return an id as the bridge makes them."""
    return time_ordered_id(time_ns() // 1_000_000, random.getrandbits(74))


async def main(folder: Path, ids: int, rounds: int) -> None:
    """Print each round, and the ratios of all of them."""
    server = EmbeddedServer(folder / "data")
    ratios: dict[str, list[float]] = {}
    async with server.use() as address, AsyncExitStack() as stack:
        empty, full = await open_side(stack, address), await open_side(stack, address)
        await fill(full.connection, ids)
        for number in range(rounds + 1):
            await empty.connection.execute("TRUNCATE action_dedup_log")
            for mode in get_args(Mode):
                measures: dict[str, Callable[[Side], Awaitable[float]]] = {
                    f"{mode}, ids made": partial(Side.commit_rate, mode=mode, new_id=made_id),
                    f"{mode}, ids random": partial(Side.commit_rate, mode=mode, new_id=uuid4),
                    f"{mode}, whole bridge": partial(Side.bridge_rate, mode=mode),
                }
                for name, measure in measures.items():
                    sides = (empty, full) if number % 2 else (full, empty)
                    rates = {id(side): await measure(side) for side in sides}
                    ratio = rates[id(full)] / rates[id(empty)]
                    if number:  # the first round warms up
                        ratios.setdefault(name, []).append(ratio)
                    both = f"{rates[id(empty)]:7,.0f}/s empty {rates[id(full)]:7,.0f}/s full"
                    sys.stdout.write(f"{number:3} {name:21} {both} {ratio:.2f}\n")
                    sys.stdout.flush()
    await server.stopped()
    for name, found in ratios.items():
        sys.stdout.write(f"{name}: full/empty {told(found)}\n")


def told(ratios: Iterable[float]) -> str:
    """Return the median of `ratios`, with their quartiles."""
    ordered = sorted(ratios)
    low, high = ordered[len(ordered) // 4], ordered[len(ordered) * 3 // 4]
    return f"{median(ordered):.3f} (median of {len(ordered)} rounds; half in {low:.2f}-{high:.2f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="omninode-bridge-ids-", dir=options.folder) as made:
        Path(made).chmod(0o711)
        asyncio.run(main(Path(made), options.ids, options.rounds))
