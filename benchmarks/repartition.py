"""What another number of partitions costs: time and memory for so many entries.

    .venv/bin/python benchmarks/repartition.py [--entries 200000] [--keys 20000] [--folder DIR]

An embedded server with its usual durability gets so many commits, spread over so many keys, each
with a remembered outcome. Then the number of partitions is changed up, down and up again, each time
timed, and the history verified at the end. Memory is the most that this process had, and the
backend that does the work.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Final

import psutil

from omninode_bridge import Bridge
from omninode_bridge.app.repartitioning import repartition
from omninode_bridge.bench import app

BATCH: Final = 5_000
NUMBERS: Final = (8, 3, 4)


def say(words: str) -> None:
    """Write a line of the result."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


async def fill(data_dir: Path, entries: int, keys: int) -> None:
    """Commit so many actions."""
    async with Bridge.open(app, data_dir=data_dir) as bridge:
        for first in range(0, entries, BATCH):
            numbers = range(first, min(first + BATCH, entries))
            await bridge.submit_many(
                [(f"bench:{n % keys}", "Counted", {"amount": 1}) for n in numbers]
            )
        await bridge.settled(timeout=600)


def backend_mb(data_dir: Path) -> float:
    """Return the private memory of the largest backend; 0 while the server is not there."""
    try:
        lines = (data_dir / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
        memory = [each.memory_info() for each in psutil.Process(int(lines[0])).children()]
    except (OSError, psutil.NoSuchProcess):
        return 0.0
    return max([each.rss - each.shared for each in memory], default=0) / 1e6


async def watch(data_dir: Path, sizes: list[float]) -> None:
    """Note now and then how large the backends are."""
    while True:
        sizes.append(backend_mb(data_dir))
        await asyncio.sleep(0.2)


async def main(entries: int, keys: int, data_dir: Path) -> None:
    """Fill, change, verify."""
    await fill(data_dir, entries, keys)
    for number in NUMBERS:
        sizes: list[float] = []
        watching = asyncio.create_task(watch(data_dir, sizes))
        began = perf_counter()
        done = await repartition(number, data_dir=data_dir)
        seconds = perf_counter() - began
        watching.cancel()
        assert not done.obstacles, done.obstacles
        say(
            f"{done.partitions_before} -> {done.partitions}: {done.entries:,} entries of"
            f" {done.keys:,} keys in {seconds:.1f} s, backend {max(sizes):.0f} MB"
        )
    mine = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000
    say(f"this process: {mine:.0f} MB at most, the filling included")
    async with Bridge.open(app, data_dir=data_dir, writing=False) as bridge:
        found = await bridge.verify()
    say(f"verified: {found.actions:,} actions, {found.mismatches_found} mismatches")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="repartition-") as place:
        Path(place).chmod(0o711)  # for the account that the server runs as
        asyncio.run(main(given.entries, given.keys, Path(place) / "data"))
