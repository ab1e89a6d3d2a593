"""What is written all the time is found at once, also while somebody holds an old snapshot.

Counted in pages touched and not in time: what is asked here is how the work grows, and noise on the
machine touches no pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from omninode_bridge import Action, App, Bridge, EffectCall, Intent, Transition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FEW = 100
MANY = 900

app = App("old snapshots")


@app.reducer("order")
def _(_: dict[str, Any], action: Action) -> Transition:
    """Ask for an effect and for a follow-up action with each one placed."""
    state = {"n": action.payload["n"]}
    if action.type == "Placed":
        follow_up = Intent.submit("order:follow-up", "Followed", action.payload)
        return Transition(state, (Intent("Mail"), follow_up))
    return Transition(state)


@app.effect("Mail")
async def _(_: EffectCall) -> None:
    """Do nothing."""


@pytest.fixture
async def looker(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection to a database of one partition, of which somebody holds a snapshot."""
    async with Bridge.open(app, database_url=database_url, partitions=1):
        pass
    holder = await asyncpg.connect(database_url)
    connection = await asyncpg.connect(database_url)
    transaction = holder.transaction(isolation="repeatable_read")
    await transaction.start()
    await holder.fetchval("SELECT count(*) FROM workflow_state")
    yield connection
    await transaction.rollback()
    await holder.close()
    await connection.close()


async def place(database_url: str, first: int, orders: int) -> None:
    """Change one key so many times, in a commit each, and let all that follows from it happen."""
    async with Bridge.open(app, database_url=database_url) as bridge:
        for number in range(first, first + orders):
            outcome = await bridge.submit("order:1", "Placed", {"n": number})
            assert outcome.committed().version == number + 1
        await bridge.settled()


async def pages_touched(looker: asyncpg.Connection) -> int:
    """Return how many pages those whose connections are closed have touched in this database."""
    touched: int = await looker.fetchval(
        "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
    )
    return touched


async def test_under_an_old_snapshot_an_action_costs_what_it_cost_before(
    looker: asyncpg.Connection, database_url: str
) -> None:
    costs = []
    placed = 0
    for orders in (FEW, MANY, FEW):
        before = await pages_touched(looker)
        await place(database_url, placed, orders)
        placed += orders
        costs.append((await pages_touched(looker) - before) / orders)
    assert costs[2] < 1.5 * costs[0], costs
