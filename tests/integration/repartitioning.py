"""A small database at rest, and looks at its partitions from outside."""

from __future__ import annotations

from typing import Any

import pytest

from omninode_bridge import Bridge
from tests.bridges import app as counting
from tests.bridges import fetch


@pytest.fixture
async def counted(database_url: str) -> str:
    """Return the URL of a database of two partitions at rest."""
    async with Bridge.open(counting, database_url=database_url, partitions=2) as bridge:
        for n in range(20):
            payload = {"amount": 1, "passes_on_to": [f"counter:{n + 1}"]}
            await bridge.submit(f"counter:{n}", "Counted", payload)
        await bridge.settled()
    return database_url


async def value(database_url: str, statement: str) -> Any:  # noqa: ANN401 - whatever is asked
    (row,) = await fetch(database_url, statement)
    return row[0]


async def dense(database_url: str, partitions: int) -> None:
    """Offsets are dense up to the heads, and every consumer and the projection is at its head."""
    rows = await fetch(
        database_url,
        "SELECT * FROM event_log_partitions JOIN event_log_action_heads USING (partition)"
        " ORDER BY partition",
    )
    assert [row["partition"] for row in rows] == list(range(partitions))
    marks = await fetch(database_url, 'SELECT partition_id, "offset" FROM projection_watermarks')
    watermarks = dict(map(tuple, marks))
    for row in rows:
        n = row["partition"]
        for topic, low, head in (
            ("state_committed", 1, row["state_committed_head"]),
            ("reducer_gave_up", 1, row["reducer_gave_up_head"]),
            ("fsm_state_transitioned", 1, row["fsm_head"]),
            ("intent", row["intent_low"], row["intent_head"]),
            ("action", row["action_low"], row["action_head"]),
        ):
            entries = await fetch(
                database_url,
                f'SELECT "offset" FROM event_log_{topic} WHERE partition = {n} ORDER BY 1',  # noqa: S608 - of ours
            )
            assert [entry["offset"] for entry in entries] == list(range(low, head)), (topic, n)
        positions = await fetch(
            database_url,
            f"SELECT * FROM event_log_positions WHERE partition = {n}",  # noqa: S608 - of ours
        )
        heads = {"action": row["action_head"], "intent": row["intent_head"]}
        assert [p["next"] for p in positions] == [heads[p["topic"]] for p in positions]
        assert len(positions) == partitions + 2
        assert watermarks.pop(f"state-committed/{n}") == row["state_committed_head"]
    assert watermarks == {}
