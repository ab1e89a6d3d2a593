"""A process that places orders, made to be killed while their effects are under way.

python -m tests.integration.paying_user DATA_DIR GATEWAY FIRST ORDERS
"""

from __future__ import annotations

import asyncio
import sys

from omninode_bridge import Bridge
from tests.integration.paying import app


async def main(data_dir: str, gateway: str, first: str, orders: str) -> None:
    """Place the orders; say so; wait for the end."""
    async with Bridge.open(app, data_dir=data_dir) as bridge:
        payload = {"gateway": gateway, "fails": 1}
        keys = [f"order:{int(first) + number}" for number in range(int(orders))]
        await bridge.submit_many([(key, "Placed", payload) for key in keys])
        sys.stdout.write("placed\n")
        sys.stdout.flush()
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
