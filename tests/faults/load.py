"""A process under load, made to be killed: `python -m tests.faults.load DATA_DIR SEED`.

It writes a line to standard output for each action, `asked KEY ID` before submitting it and
`acked KEY ID VERSION` after its answer. From standard input it first reads lines `KEY ID`, up to an
empty one: actions whose outcome the process before it did not live to see. It submits them again.
"""

from __future__ import annotations

import asyncio
import random
import sys
from uuid import UUID, uuid4

from omninode_bridge import Bridge
from tests.bridges import app

CLIENTS = 50
KEYS = 20


def say(*words: object) -> None:
    """Write a line that is there when we are killed the next moment."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def ask(bridge: Bridge, key: str, action_id: UUID) -> None:
    """Submit one action; say so before and after."""
    say("asked", key, action_id)
    payload = {"amount": 1, "passes_on_to": ["counter:sum"]}
    outcome = await bridge.submit(key, "Counted", payload, action_id=action_id, timeout=60)
    say("acked", key, action_id, outcome.committed().version)


async def client(bridge: Bridge, dice: random.Random) -> None:
    """Ask, wait for the answer, ask again."""
    while True:
        await ask(bridge, f"counter:{dice.randrange(KEYS)}", uuid4())


async def main(data_dir: str, seed: str) -> None:
    """Work until killed."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    again = [line.split() for line in iter(sys.stdin.readline, "\n")]
    async with Bridge.open(app, data_dir=data_dir) as bridge, asyncio.TaskGroup() as group:
        for key, action_id in again:
            group.create_task(ask(bridge, key, UUID(action_id)))
        for _ in range(CLIENTS):
            group.create_task(client(bridge, dice))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
