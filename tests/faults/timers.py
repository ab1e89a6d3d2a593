"""A process whose timers fire, made to be killed: `python -m tests.faults.timers DATA_DIR`.

It does what there is to do, and writes `fired N` each time that N timers went into the action log.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from omninode_bridge import Bridge, Observation, TimersFired
from tests.bridges import app


def observe(observation: Observation) -> None:
    """Write a line that is there when we are killed the next moment."""
    if isinstance(observation, TimersFired):
        sys.stdout.write(f"fired {observation.actions}\n")
        sys.stdout.flush()


async def main(data_dir: Path) -> None:
    """Serve until killed."""
    async with Bridge.open(app, data_dir=data_dir, observe=observe):
        sys.stdout.write("open\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
