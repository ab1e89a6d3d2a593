"""The direct path as the oracle: two bridges on two databases are asked the same, and agree.

One folds batches in memory, the other has a transaction for each action. Whatever is asked, both
say and store the same: states, versions, outcomes, the entries of every log, projections and
positions. What differs by nature is left out: times, ids of commits, the order among keys.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from omninode_bridge import Bridge
from tests.asked import OCCURRED_AT, app, calls, plain
from tests.bridges import fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.asked import Asked, Call
    from tests.servers import PostgresTestServer

_examples: Final = count(1)
BY_NATURE: Final = {"effect_id", "timestamp", "commit_offset"}

# Columns that could differ by nature are not read; `%` is the keys of one example.
ROWS: Final = {
    "states": """
        SELECT workflow_key, version, state, schema_version, provenance
        FROM workflow_state WHERE workflow_key LIKE $1 ORDER BY workflow_key
        """,
    "outcomes": """
        SELECT workflow_key, action_id, request_hash, result_hash, version, outcome,
               expires_at - processed_at AS remembered
        FROM action_dedup_log WHERE workflow_key LIKE $1 ORDER BY workflow_key, action_id
        """,
    "state-committed": """
        SELECT workflow_key, version, action_id, body
        FROM event_log_state_committed WHERE workflow_key LIKE $1 ORDER BY workflow_key, "offset"
        """,
    "reducer-gave-up": """
        SELECT workflow_key, version, action_id, body
        FROM event_log_reducer_gave_up WHERE workflow_key LIKE $1 ORDER BY workflow_key, "offset"
        """,
    "intent": """
        SELECT workflow_key, action_id, intent_id, intent_type, target, body
        FROM event_log_intent WHERE workflow_key LIKE $1 ORDER BY workflow_key, "offset"
        """,
    "action": """
        SELECT workflow_key, action_id, body
        FROM event_log_action WHERE workflow_key LIKE $1 ORDER BY workflow_key, "offset"
        """,
    "projections": """
        SELECT workflow_key, version, tag, last_action, namespace, indices, extras
        FROM workflow_projection WHERE workflow_key LIKE $1 ORDER BY workflow_key
        """,
}
HEADS: Final = """
    SELECT state_committed_head, reducer_gave_up_head, intent_head, action_head, r.next, w."offset"
    FROM event_log_partitions p JOIN event_log_action_heads USING (partition)
    JOIN event_log_positions r ON r.partition = p.partition AND r.consumer = 'reducer'
    LEFT JOIN projection_watermarks w ON w.partition_id = 'state-committed/' || p.partition
    ORDER BY p.partition
    """


@pytest.fixture
async def both_paths(
    postgres_server: PostgresTestServer, migrated_template: str
) -> AsyncIterator[dict[str, Bridge]]:
    """Yield by URL a bridge of either path, each on a database of its own."""
    async with AsyncExitStack() as stack:
        bridges: dict[str, Bridge] = {}
        for pure_reducer in (True, False):
            database = postgres_server.database(template=migrated_template)
            url = (await stack.enter_async_context(database)).url
            opened = Bridge.open(app, database_url=url, partitions=2, pure_reducer=pure_reducer)
            bridges[url] = await stack.enter_async_context(opened)
        yield bridges


async def ask(bridge: Bridge, example: int, call: Call) -> list[tuple[object, ...]]:
    """Ask all of a call at once, wait for all that follows from it; return what was answered."""

    async def one(asked: Asked) -> tuple[object, ...]:
        key, payload = asked.key_of(example), asked.payload_of(example)
        action_id, expected = asked.id_of(example), asked.expected_version
        if call.door == "log":
            await bridge.enqueue(
                *(key, asked.type, payload),
                action_id=action_id,
                expected_version=expected,
                occurred_at=OCCURRED_AT,
                correlation_id=asked.lease_id,
                reply_to=asked.reply_to(example),
            )
            return ()
        outcome = await bridge.submit(
            *(key, asked.type, payload),
            action_id=action_id,
            expected_version=expected,
            occurred_at=OCCURRED_AT,
            epoch=asked.epoch,
            lease_id=asked.lease_id,
            reply_to=asked.reply_to(example),
            timeout=30,
        )
        return (*plain(outcome), outcome.duplicate)

    told = await asyncio.gather(*(one(asked) for asked in call.asked))
    await bridge.settled()
    return told


async def heads(database_url: str) -> list[int]:
    """Return the heads, positions and watermarks of all partitions."""
    return [number or 1 for row in await fetch(database_url, HEADS) for number in row]


async def stored(database_url: str, example: int, before: list[int]) -> dict[str, Any]:
    """Return everything that is stored of an example, without what differs by nature.

    `before` are the heads before it: what they have grown by is the example's.
    """
    grown = [now - then for now, then in zip(await heads(database_url), before, strict=True)]
    found: dict[str, Any] = {"heads, positions and watermarks": grown}
    for what, statement in ROWS.items():
        rows = await fetch(database_url, statement, f"%:{example}-%")
        found[what] = [[without_nature(value) for value in row] for row in rows]
    return found


def without_nature(value: object) -> object:
    """Return a column without what differs by nature in its JSON."""
    if not (isinstance(value, str) and value.startswith("{")):
        return value
    fields = orjson.loads(value)
    action = fields.get("action", fields)
    if action.get("causation_id") is not None:  # a follow-up occurred when its source was committed
        action.pop("occurred_at")
    return {name: each for name, each in fields.items() if name not in BY_NATURE}


@pytest.mark.timeout(600)  # needed only when it fails, to find the smallest example
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=calls)
async def test_both_paths_make_the_same_of_whatever_is_asked(
    both_paths: dict[str, Bridge], asked: list[Call]
) -> None:  # R1 to R7: one implementation of them is the oracle of the other
    example = next(_examples)  # each has keys of its own on the two databases of the test
    for bridge in both_paths.values():
        await bridge.settled()  # an example that failed may have left something under way
    before = {url: await heads(url) for url in both_paths}
    for call in asked:
        worker, direct = [await ask(bridge, example, call) for bridge in both_paths.values()]
        assert worker == direct
    worker_rows, direct_rows = [await stored(url, example, before[url]) for url in both_paths]
    for what, rows in worker_rows.items():
        assert rows == direct_rows[what], what
    assert worker_rows["outcomes"], "something was decided"
    for bridge in both_paths.values():
        verification = await bridge.verify()
        assert verification.mismatches == []
