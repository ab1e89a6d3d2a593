"""How many actions a second the commit function alone makes durable, spread and hot.

    .venv/bin/python benchmarks/commit_function.py [ROUNDS]

Batches of 500 are folded beforehand; what is timed is one connection calling the function of
migration 009 with ready arguments, on an embedded server with its usual durability. Spread: 10,000
keys; hot: one. Both are measured in every round, since machines are noisy.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import asyncpg

from omninode_bridge.bench import app
from omninode_bridge.core.commit import Commit
from omninode_bridge.core.message import SealedAction
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.reducer import NEVER_SEEN, Snapshot, Step, fold
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from omninode_bridge.services.canonical_store import SQL, CanonicalStoreService
from omninode_bridge.services.event_log import EventLogService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCH: Final = 500
BATCHES: Final = 60
PARTITIONS: Final = 4
KEY_TYPE: Final = app.key_types()["bench"]
CODEC: Final = CanonicalCodec()


def batches(any_key: Callable[[], str]) -> Iterator[Commit]:
    """Yield commits of `BATCH` actions each, on keys of one partition."""
    snapshots: dict[str, Snapshot] = {}
    for _ in range(BATCHES):
        by_key: dict[str, list[SealedAction]] = {}
        for _ in range(BATCH):
            key = any_key()
            action = SealedAction(uuid4(), key, "Counted", b'{"amount":3}', datetime.now(UTC))
            by_key.setdefault(key, []).append(action)
        steps: list[Step] = []
        reads: dict[str, int] = {}
        now = datetime.now(UTC)
        for key, actions in by_key.items():
            before = snapshots.get(key, NEVER_SEEN)
            reads[key] = before.version
            snapshots[key], made = fold(before, actions, KEY_TYPE, CODEC, now)
            steps += made
        partition = partition_of(next(iter(by_key)), PARTITIONS)
        yield Commit(partition, None, reads, steps, now, uuid4())


async def measure(connect: dict[str, str | int], any_key: Callable[[], str]) -> float:
    """Return the actions per second."""
    async with Database(connect, connections_max=1) as database:
        store = CanonicalStoreService(database, CODEC, partitions=PARTITIONS)
        calls = [store.arguments(commit) for commit in batches(any_key)]
    connection = await asyncpg.connect(**connect)
    statement = await connection.prepare(SQL["commit"])
    began = perf_counter()
    for arguments in calls:
        row = await statement.fetchrow(*arguments)
        assert row["refusal"] is None, row["refusal"]
    took = perf_counter() - began
    await connection.close()
    return BATCH * BATCHES / took


async def main(folder: Path, rounds: int) -> None:
    """Print one line a round."""
    server = EmbeddedServer(folder / "data")
    async with server.use() as address:
        connect = address.connect_arguments
        await migrations.upgrade(connect)
        async with Database(connect, connections_max=1) as database:
            await EventLogService(database).create_partitions(PARTITIONS)
        for number in range(rounds):
            keys = [f"bench:{number}/{n}" for n in range(40_000)]
            first = [key for key in keys if partition_of(key, PARTITIONS) == 0][:10_000]
            spread = await measure(connect, partial(random.choice, first))
            hot = await measure(connect, partial(str, f"bench:{number}/hot"))
            sys.stdout.write(f"spread {spread:,.0f}/s  hot {hot:,.0f}/s\n")
    await server.stopped()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="omninode-bridge-benchmark-") as name:
        Path(name).chmod(0o711)
        asyncio.run(main(Path(name), int(sys.argv[1]) if len(sys.argv) > 1 else 3))
