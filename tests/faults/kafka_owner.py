"""A process that serves an application on Kafka, made to be killed.

`python -m tests.faults.kafka_owner DATABASE_URL BOOTSTRAP PREFIX`; it says `ready` when it serves.
"""

from __future__ import annotations

import asyncio
import sys

from omninode_bridge import Bridge, KafkaPlace
from tests.bridges import app


async def serve(database_url: str, bootstrap: str, prefix: str) -> None:
    """Serve until killed."""
    place = KafkaPlace(bootstrap, prefix)
    async with Bridge.open(app, database_url=database_url, kafka=place):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
