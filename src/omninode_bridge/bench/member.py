"""One of several processes under load: `python -m omninode_bridge.bench.member`.

Its arguments are URL CLIENTS SECONDS. It opens a bridge and says which partitions it owns, a list
in JSON, each time it reads a line `owned`. At a line with a number from 0 to 1 it measures, and
says what: that share of its asks goes to keys of other processes. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from omninode_bridge import Bridge, OwnershipChanged, partition_of
from omninode_bridge.bench.load import SPREAD_KEYS, app
from omninode_bridge.bench.sharing import Asking

if TYPE_CHECKING:
    from omninode_bridge import Observation


async def main(database_url: str, clients: str, seconds: str) -> None:
    """Do what standard input says, line by line."""
    owned: set[int] = set()

    def observe(observation: Observation) -> None:
        match observation:
            case OwnershipChanged(partition, "taken"):
                owned.add(partition)
            case OwnershipChanged(partition):
                owned.discard(partition)
            case _:
                pass

    async with Bridge.open(app, database_url=database_url, observe=observe) as bridge:
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            said: object = sorted(owned)
            if line != "owned":
                keys: tuple[list[str], list[str]] = ([], [])
                for key in (f"bench:{number}" for number in range(SPREAD_KEYS)):
                    keys[partition_of(key, bridge.partitions) not in owned].append(key)
                asking = Asking(int(clients), float(seconds), keys, float(line))
                said = asdict(await asking.run(bridge, None))
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(*sys.argv[1:]))
