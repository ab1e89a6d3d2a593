"""How fast expired outcomes are forgotten beside a bridge at work, and what its commits feel of it.

    .venv/bin/python benchmarks/cleaning.py [--rows 200000] [--rounds 8] [--clients 500]

A bridge on an embedded server with its usual durability is kept busy by clients, on 10,000 keys. In
each round it works once alone, and once while the cleaner forgets `--rows` outcomes whose time is
over, for about as long. Printed are how many were forgotten in a second, the commits' durations in
both cases, and how long a commit was seen waiting for a lock (looked at every 2 ms, and only a wait
for the cleaner counts).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Final

import asyncpg

from omninode_bridge import BatchCommitted, Bridge, OutcomesForgotten
from omninode_bridge.bench import Load, app
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from omninode_bridge.services.action_dedup import ActionDedupService
from omninode_bridge.services.cleaner import Cleaner
from omninode_bridge.services.event_log import EventLogService

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge import Observation

LOOK_S: Final = 0.002
EXPIRED: Final = """
INSERT INTO action_dedup_log
    (workflow_key, action_id, request_hash, result_hash, version, outcome, expires_at)
SELECT 'bench:' || n % 10000, gen_random_uuid(), md5(n::TEXT) || md5(n::TEXT),
       md5(n::TEXT) || md5(n::TEXT), n, '{"event":"StateCommitted","commit_offset":1}',
       now() - INTERVAL '1 day' + n * INTERVAL '1 millisecond'
FROM generate_series(1, $1::INT) n
"""
LEFT: Final = "SELECT EXISTS (SELECT FROM action_dedup_log WHERE expires_at < now())"
# Commits that wait for a lock that a cleaning session holds or waits for before them.
WAITING: Final = """
SELECT w.pid FROM pg_stat_activity w
WHERE w.wait_event_type = 'Lock' AND w.query LIKE '%event_log_commit%' AND EXISTS (
    SELECT FROM pg_stat_activity c WHERE c.pid = ANY (pg_blocking_pids(w.pid))
      AND (c.query LIKE '%cleanup_expired%' OR c.query LIKE '%drop_segments%'))
"""


@dataclass
class Seen:
    """What was seen of one way of working."""

    commits_s: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)

    def told(self) -> str:
        """Return the durations of commits in words."""
        ordered = sorted(self.commits_s)
        p99 = ordered[int(len(ordered) * 0.99)]
        middle = median(ordered)
        waited = max(self.waits_s, default=0.0)
        return (
            f"{len(ordered)} commits, median {middle * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms,"
            f" longest {ordered[-1] * 1000:.1f} ms; longest wait for the cleaner"
            f" {waited * 1000:.1f} ms"
        )


class Watch:
    """Takes down what commits do, for whichever way of working is under way."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self.seen: Seen | None = None

    def observe(self, observation: Observation) -> None:
        """Take note of commits."""
        if isinstance(observation, BatchCommitted) and self.seen is not None:
            self.seen.commits_s.append(observation.seconds)

    async def look(self, connection: asyncpg.Connection) -> None:
        """Look for commits that wait, until cancelled."""
        since: dict[int, float] = {}
        while True:
            waiting = {row["pid"] for row in await connection.fetch(WAITING)}
            now = perf_counter()
            for pid in list(since):
                if pid not in waiting and self.seen is not None:
                    self.seen.waits_s.append(now - since.pop(pid))
            for pid in waiting:
                since.setdefault(pid, now)
            await asyncio.sleep(LOOK_S)


async def main(folder: Path, rows: int, rounds: int, clients: int) -> None:
    """Print one line a round, and what both ways of working came to."""
    server = EmbeddedServer(folder / "data")
    alone, beside, watch = Seen(), Seen(), Watch()
    rates: list[float] = []
    forgotten: list[Observation] = []
    async with (
        server.use() as address,
        Bridge.open(app, data_dir=folder / "data", observe=watch.observe) as bridge,
        Database(address.connect_arguments, connections_max=2) as database,
    ):
        looking = await asyncpg.connect(**address.connect_arguments)
        filling = await asyncpg.connect(**address.connect_arguments)
        cleaner = Cleaner(
            range(bridge.partitions),
            outcomes=ActionDedupService(database),
            segments=EventLogService(database),
            observe=forgotten.append,
        )
        stop = asyncio.Event()
        load = Load("spread", clients, 0)
        asking = [asyncio.create_task(load.keep_asking(bridge, stop)) for _ in range(clients)]
        look = asyncio.create_task(watch.look(looking))
        await asyncio.sleep(2)
        took = 3.0
        for number in range(rounds):
            await filling.execute(EXPIRED, rows)
            forgotten.clear()
            watch.seen, began = beside, perf_counter()
            await cleaner.clean()
            took, watch.seen = perf_counter() - began, None
            while await filling.fetchval(LEFT):  # the bridge's own cleaner was at it just then
                forgotten.clear()
                await cleaner.clean()
            if forgotten != [OutcomesForgotten(rows)]:
                continue
            rates.append(rows / took)
            watch.seen = alone
            await asyncio.sleep(took)
            watch.seen = None
            sys.stdout.write(f"{number:3} {rows:,} in {took:.1f} s: {rates[-1]:,.0f}/s\n")
            sys.stdout.flush()
        stop.set()
        await asyncio.gather(*asking)
        look.cancel()
        with suppress(asyncio.CancelledError):
            await look
        await looking.close()
        await filling.close()
    await server.stopped()
    sys.stdout.write(
        f"forgotten {median(rates):,.0f}/s (median; {min(rates):,.0f}/s at least)\n"
        f"alone:           {alone.told()}\nbeside cleaning: {beside.told()}\n"
        f"{tail(alone.commits_s, beside.commits_s)}\n"
    )


def tail(alone: Sequence[float], beside: Sequence[float]) -> str:
    """Return how much longer the longest hundredth of the commits took beside cleaning."""
    cut = [sorted(each)[int(len(each) * 0.99) :] for each in (alone, beside)]
    means = [sum(each) / len(each) * 1000 for each in cut]
    return f"the slowest 1 % took {means[0]:.1f} ms alone, {means[1]:.1f} ms beside cleaning"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--clients", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="omninode-bridge-cleaning-") as made:
        Path(made).chmod(0o711)
        asyncio.run(main(Path(made), options.rows, options.rounds, options.clients))
