"""The direct path as the oracle: two bridges on two databases are asked the same, and agree.

One folds batches in memory, the other has a transaction for each action. Whatever is asked, both
say and store the same: states, versions, outcomes, the entries of every log, projections and
positions. What differs by nature is left out: times, ids of commits, the order among keys.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings

from omninode_bridge import Bridge
from omninode_bridge.core.message import SealedAction
from omninode_bridge.services import dead_letters
from tests.asked import (
    BROKEN_AND_REDRIVEN,
    CANCELLED_BEFORE_IT_IS_DUE,
    OCCURRED_AT,
    Call,
    app,
    calls,
    plain,
)
from tests.bridges import WAIT_S, fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.asked import Asked
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
               CASE WHEN isfinite(expires_at) THEN (expires_at - processed_at)::TEXT
                    ELSE 'for ever' END AS remembered
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
FIRE: Final = "UPDATE timers SET due_at = due_at - INTERVAL '90 years' WHERE workflow_key LIKE $1"
WAITING: Final = "SELECT FROM timers WHERE workflow_key LIKE $1 LIMIT 1"
FAR: Final = datetime(2100, 1, 1, tzinfo=UTC)
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


async def ask(
    database_url: str, bridge: Bridge, example: int, turn: int, call: Call
) -> list[tuple[object, ...]]:
    """Ask all of a call at once, wait for all that follows from it; return what was answered."""
    if call.door == "fire":
        return await fire(database_url, bridge, example)
    if call.door == "redrive":
        return await redrive(bridge, example)

    async def one(number: int, asked: Asked) -> tuple[object, ...]:
        key, payload = asked.key_of(example), asked.payload_of(example)
        action_id, expected = asked.id_of(example), asked.expected_version
        if call.door == "cancel":
            assert bridge._host is not None
            await bridge._host.enqueue(cancellation(action_id, key))
            return ()
        if call.door in ("log", "timer"):
            far = FAR + timedelta(seconds=100 * turn + number)  # no two at once: an order of theirs
            await bridge.enqueue(
                *(key, asked.type, payload),
                action_id=action_id,
                expected_version=expected,
                occurred_at=OCCURRED_AT,
                correlation_id=asked.lease_id,
                reply_to=asked.reply_to(example),
                due_at=far if call.door == "timer" else None,
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

    told = await asyncio.gather(*(one(*each) for each in enumerate(call.asked)))
    await bridge.settled()
    return told


def cancellation(action_id: UUID, key: str) -> SealedAction:
    """Return what the dispatcher makes of `Intent.cancel`."""
    action = SealedAction(action_id, key, "", b"{}", OCCURRED_AT)
    return replace(action, remember_s=None, purpose="cancel")


async def fire(database_url: str, bridge: Bridge, example: int) -> list[tuple[object, ...]]:
    """Let all that waits for its time become due at once, in the order of these times."""
    await fetch(database_url, FIRE, f"%:{example}-%")
    assert bridge._host is not None
    for partition in range(bridge.partitions):
        bridge._host._log_grew(partition)  # rather than wait for the poll
    async with asyncio.timeout(WAIT_S):
        while await fetch(database_url, WAITING, f"%:{example}-%"):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.002)
    await bridge.settled()
    return []


async def redrive(bridge: Bridge, example: int) -> list[tuple[object, ...]]:
    """Redrive all that is a dead letter; return what was, key by key in its order."""
    letters = [
        letter
        async for page in bridge.dead_letter_pages()
        for letter in page
        if letter.workflow_key.partition(":")[2].startswith(f"{example}-")
    ]
    letters.sort(key=lambda letter: letter.workflow_key)
    for letter in letters:
        assert await bridge.redrive(letter)
    await bridge.settled()
    return [(letter.workflow_key, letter.id, letter.reason, letter.attempts) for letter in letters]


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
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=calls)
@example(asked=BROKEN_AND_REDRIVEN)
@example(asked=CANCELLED_BEFORE_IT_IS_DUE)
async def test_both_paths_make_the_same_of_whatever_is_asked(
    both_paths: dict[str, Bridge], monkeypatch: pytest.MonkeyPatch, asked: list[Call]
) -> None:  # R1 to R7: one implementation of them is the oracle of the other
    example = next(_examples)  # each has keys of its own on the two databases of the test
    for bridge in both_paths.values():
        await bridge.settled()  # an example that failed may have left something under way
    before = {url: await heads(url) for url in both_paths}
    for turn, call in enumerate([*asked, Call("fire", [])]):
        told: list[list[tuple[object, ...]]] = []
        for url, bridge in both_paths.items():
            redrive_ids = map(
                UUID, (f"{example:08x}-0000-4000-8000-{turn:04x}{n:08x}" for n in count())
            )
            monkeypatch.setattr(dead_letters, "uuid4", partial(next, redrive_ids))
            told.append(await ask(url, bridge, example, turn, call))
        worker, direct = told
        assert worker == direct
    worker_rows, direct_rows = [await stored(url, example, before[url]) for url in both_paths]
    for what, rows in worker_rows.items():
        assert rows == direct_rows[what], what
    if any(call.door not in ("fire", "redrive") for call in asked):
        assert worker_rows["outcomes"], "something was decided"
    for bridge in both_paths.values():
        verification = await bridge.verify()
        assert verification.mismatches == []
