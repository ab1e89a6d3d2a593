"""A process on the direct path: `python -m tests.integration.direct_writer URL KEY ACTIONS`.

It commits so many actions to KEY beside whoever owns its partition (of one), one after another, and
writes `begun`, then the version of each.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from uuid import uuid4

from omninode_bridge.core.message import SealedAction
from tests.integration.test_both_paths import beside_the_owner


async def main(database_url: str, key: str, actions: str) -> None:
    """Commit, and tell the versions."""
    async with beside_the_owner(database_url) as direct:
        sys.stdout.write("begun\n")
        sys.stdout.flush()
        for _ in range(int(actions)):
            action = SealedAction(uuid4(), key, "Counted", b'{"amount":1}', datetime.now(UTC))
            outcome = await direct.handle_action(action)
            sys.stdout.write(f"{outcome.committed().version}\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
