"""Through a pooler of transactions: backends change under every connection, and nobody notices."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Final

from omninode_bridge import Bridge
from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.infrastructure.postgres.pooling import is_pooled, with_pooler_seen
from tests.faults.test_sharing import serving, until_shared
from tests.integration.shop import Cards, charge, contract, reserve, shop

if TYPE_CHECKING:
    from tests.poolers import Pooler

ORDERS: Final = 24
SKUS: Final = 6


async def test_a_pooler_is_told_from_a_server(pooler: Pooler, database_url: str) -> None:
    assert is_pooled(await with_pooler_seen({"dsn": pooler.url}))
    assert not is_pooled(await with_pooler_seen({"dsn": database_url}))


async def test_statements_of_many_clients_are_not_taken_for_each_other(pooler: Pooler) -> None:
    connect = await with_pooler_seen({"dsn": pooler.url})

    async def ask(database: Database, number: int) -> None:
        for _ in range(20):
            # Equal parameters, other statements: one in the place of another would not be refused.
            answer = await database.fetchval(f"SELECT $1::INT + {number}", 1)
            assert answer == number + 1

    async with Database(connect, connections_max=16) as database:
        await asyncio.gather(*(ask(database, number) for number in range(32)))


async def test_two_processes_carry_out_a_shops_orders_through_a_pooler(pooler: Pooler) -> None:
    await migrations.upgrade({"dsn": pooler.url})
    async with Bridge.open(shop(Cards()), database_url=pooler.url) as bridge:
        order = bridge.app.workflow(contract(reserve(), charge()))
        async with serving(pooler.url, served="tests.integration.shop_served:app") as other:
            await until_shared(pooler.server_url, 2, 2)

            async def buy(number: int) -> str:
                given = {"sku": f"sku-{number % SKUS}", "quantity": 1, "amount": 10 + number % 4}
                outcome = await bridge.run(order, given, workflow_id=f"o{number}", timeout=60)
                return outcome.status

            ended = await asyncio.gather(*(buy(number) for number in range(ORDERS)))
            # Amounts of 13 are refused: what was reserved is let go again.
            assert ended == [
                "COMPENSATED" if number % 4 == 3 else "COMPLETED" for number in range(ORDERS)
            ]
            other.send_signal(signal.SIGKILL)
            assert await asyncio.gather(*(buy(number) for number in range(ORDERS))) == ended
            assert await buy(ORDERS) == "COMPLETED"
        left = [await bridge.state(f"stock:sku-{n}") for n in range(SKUS)]
        sold = ended.count("COMPLETED") + 1
        assert sum(100 - row.state["left"] for row in left if row is not None) == sold
        verification = await bridge.verify()
        assert verification.mismatches == []
