"""Ingesting in a process of its own, made to be killed: `... DATA_DIR FILE CONTRACT`.

It writes a line to standard output when rows are under way, and the summary as JSON at the end.
Here as well: a log in which one row out of order, lost or doubled shows.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omninode_bridge import Bridge
from omninode_bridge.ingest import app_of, ingest, load_contract

if TYPE_CHECKING:
    from omninode_bridge.ingest import Progress

STEPS: Final = 7
ROUND: Final = json.dumps(
    {
        "name": "round",
        "version": 1,
        "namespace": "rounds",
        "key": "round:{key}",
        "action_type": "{step}",
        "occurred_at": "2026-03-02T12:00:00Z",
        "state_machine": {
            "initial": "0",
            "unmatched": "reject",
            "states": [str(n) for n in range(STEPS)],
            "transitions": [
                {"trigger": f"step {n}", "from": [str(n)], "to": str((n + 1) % STEPS)}
                for n in range(STEPS)
            ],
        },
    }
)
"""A key goes round its states; a step that is not the next one is rejected."""


def write_rounds(file: Path, *, keys: int, rows: int) -> None:
    """Write a log of `rows` steps in order for each key, the keys mixed."""
    dice = random.Random(0)  # noqa: S311 - no secret
    steps = [0] * keys
    with file.open("w") as lines:
        lines.write("key,step\n")
        for _ in range(rows):
            key = dice.randrange(keys)
            lines.write(f"{key},step {steps[key] % STEPS}\n")
            steps[key] += 1


def say(line: str) -> None:
    """Write a line that is there when we are killed the next moment."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(data_dir: str, file: str, contract_file: str) -> None:
    """Ingest until done, or killed."""
    contract = load_contract(Path(contract_file).read_text(), contract_file)  # noqa: ASYNC240 - small

    def under_way(progress: Progress) -> None:
        say(f"{progress.rows}")

    async with Bridge.open(app_of([contract]), data_dir=data_dir) as bridge:
        summary = await ingest(bridge, Path(file), contract, progress=under_way)
    say(json.dumps(summary.as_dict()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
