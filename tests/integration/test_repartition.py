"""A database gets another number of partitions: order, positions, history and what waits stay."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from omninode_bridge import Bridge, ReducerGaveUp, StateCommitted
from omninode_bridge.app.repartitioning import repartition
from omninode_bridge.core.partition import partition_of
from tests.bridges import app as counting
from tests.bridges import fetch
from tests.integration.everything import (
    RUNS,
    Filled,
    Fragile,
    by_key,
    everything,
    explained,
    fill,
    misplaced,
    redrive,
)
from tests.integration.repartitioning import dense, value
from tests.integration.shop import Cards

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("before", "after"), [(2, 5), (5, 2), (1, 3), (4, 1)])
async def test_everything_a_key_has_moves_with_it_in_its_order(
    database_url: str, tmp_path: Path, before: int, after: int
) -> None:  # R5, R7, R14
    fragile = Fragile()
    app = everything(fragile, None)
    filled = await fill(database_url, before, tmp_path / "gateway", fragile)
    # As if a segment had been dropped: what is parked, dead or over outlives its intent.
    await fetch(database_url, 'DELETE FROM event_log_intent WHERE "offset" <= 9')
    await fetch(database_url, "UPDATE event_log_partitions SET intent_low = 10")
    ids = [action_id for _, action_id in filled.outcomes]
    held = await by_key(database_url)
    async with Bridge.open(app, database_url=database_url, writing=False) as bridge:
        told = await explained(bridge, ids)
        projections = await bridge.list(limit=10_000)
        letters = await bridge.dead_letters(limit=10_000)
        assert (await bridge.verify()).mismatches == []
    for table in ("effects", "effect_log", "timers", "event_log_fsm_state_transitioned"):
        assert any(name == table for name, _ in held), f"the test needs {table}"

    done = await repartition(after, database_url=database_url)

    assert done.obstacles == []
    assert (done.partitions_before, done.partitions) == (before, after)
    assert done.effects == sum(len(rows) for (t, _), rows in held.items() if t == "effects")
    assert done.timers == sum(len(rows) for (t, _), rows in held.items() if t == "timers")
    assert done.keys == len({key for _, key in held})
    assert await by_key(database_url) == held
    assert await misplaced(database_url, after) == []
    await dense(database_url, after)
    async with Bridge.open(app, database_url=database_url, writing=False) as bridge:
        assert bridge.partitions == after
        assert await explained(bridge, ids) == told
        assert await bridge.list(limit=10_000) == projections
        key = lambda letter: (letter.workflow_key, letter.id)  # noqa: E731 - twice on one page
        place = {"partition": 0, "offset": 0}
        assert [
            letter.model_copy(update=place)
            for letter in sorted(await bridge.dead_letters(limit=10_000), key=key)
        ] == [letter.model_copy(update=place) for letter in sorted(letters, key=key)]
        assert (await bridge.verify()).mismatches == []
        await bridge.rebuild_projection()
        assert await bridge.list(limit=10_000) == projections
        assert (await bridge.verify()).mismatches == []


async def same_outcomes(bridge: Bridge, filled: Filled, partitions: int) -> None:
    """A duplicate gets its first outcome, and a commit the place where its entry is now."""
    for (key, action_id), ((_, kind, payload), first) in filled.outcomes.items():
        again = await bridge.submit(key, kind, payload, action_id=action_id)
        assert again.duplicate
        match first, again:
            case StateCommitted(), StateCommitted():
                place = again.commit_offset
                assert again == replace(first, commit_offset=place, duplicate=True)
                (line,) = await bridge.explain(action_id)
                assert (line["commit_offset"], line["workflow_key"]) == (place, key)
                assert line["partition"] == partition_of(key, partitions)
            case ReducerGaveUp(), _ if key in ("fragile:4", "fragile:8"):
                assert isinstance(again, StateCommitted), "by the redrive"
            case _:
                assert again == replace(first, duplicate=True)


async def until(bridge: Bridge, key: str, what: str, wanted: object) -> None:
    """Return when the projection of `key` says so."""
    async with asyncio.timeout(20):
        while getattr(await bridge.read(key), what, None) != wanted:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.02)


async def version(bridge: Bridge, key: str) -> int:
    row = await bridge.state(key)
    return 0 if row is None else row.version


@pytest.mark.parametrize(("before", "after"), [(2, 5), (5, 2)])
async def test_what_was_under_way_goes_on(
    database_url: str, tmp_path: Path, before: int, after: int
) -> None:  # R3, R10
    fragile, gateway = Fragile(), tmp_path / "gateway"
    app = everything(fragile, None)
    filled = await fill(database_url, before, gateway, fragile)
    touched = gateway.read_text().splitlines()
    async with Bridge.open(app, database_url=database_url) as bridge:
        soon = datetime.now(UTC) + timedelta(seconds=1.5)
        for n in range(5):
            await bridge.enqueue(f"counter:{n}", "Counted", {"amount": 0}, due_at=soon)
        versions = {f"counter:{n}": await version(bridge, f"counter:{n}") for n in range(5)}
    assert (await repartition(after, database_url=database_url)).obstacles == []

    cards = Cards()
    async with Bridge.open(everything(fragile, cards), database_url=database_url) as bridge:
        await same_outcomes(bridge, filled, after)
        # Timers fire, once.
        for key, was in versions.items():
            await until(bridge, key, "version", was + 1)
        # Runs under way complete, and their cards, which waited for a handler, are charged once.
        for n in range(RUNS):
            await until(bridge, f"run:{n}", "tag", "COMPLETED")
        assert sorted(cards.charged.values()) == list(range(1, RUNS + 1))
        assert cards.calls.count("charge") == RUNS
        # Dead letters can be put back; what is done stays done.
        fragile.broken = False
        await redrive(bridge, "fragile:12", "order:dead-4")
        assert await version(bridge, "fragile:12") == 1
        # And new work is done, in order.
        for n in range(40):
            outcome = await bridge.submit(f"counter:{n}", "Counted", {"amount": 1})
            assert outcome.committed().version >= 4
        await bridge.settled()
        assert (await bridge.verify()).mismatches == []
        for key, was in versions.items():
            assert await version(bridge, key) == was + 2
    assert await misplaced(database_url, after) == []
    assert gateway.read_text().splitlines() == touched, "no payment was made again"


async def test_there_and_back_again_is_where_it_was(database_url: str, tmp_path: Path) -> None:
    fragile = Fragile()
    app = everything(fragile, None)
    await fill(database_url, 3, tmp_path / "gateway", fragile)
    held = await by_key(database_url)
    incarnations = set()
    for number in (7, 1, 4, 3):
        assert (await repartition(number, database_url=database_url)).partitions == number
        incarnations.add(await value(database_url, "SELECT incarnation FROM event_log_database"))
        await dense(database_url, number)
    assert len(incarnations) == 4
    assert await by_key(database_url) == held
    async with Bridge.open(app, database_url=database_url, partitions=3) as bridge:
        assert (await bridge.verify()).mismatches == []


async def test_entries_are_in_order_of_time_as_far_as_the_order_of_their_partition_lets_them(
    database_url: str,
) -> None:
    async with Bridge.open(counting, database_url=database_url, partitions=4) as bridge:
        for n in range(60):
            await bridge.submit(f"counter:{n % 12}", "Counted", {})
        await bridge.settled()
    # A clock that went back for a while in one partition.
    await fetch(
        database_url,
        "UPDATE event_log_state_committed SET committed_at = committed_at - INTERVAL '1 hour'"
        ' WHERE partition = 0 AND "offset" BETWEEN 5 AND 9',
    )
    held = await by_key(database_url)
    await repartition(1, database_url=database_url)
    assert await by_key(database_url) == held
    rows = await fetch(
        database_url, 'SELECT committed_at FROM event_log_state_committed ORDER BY "offset"'
    )
    now = rows[-1]["committed_at"]
    times = [row["committed_at"] for row in rows if now - row["committed_at"] < timedelta(hours=1)]
    assert times == sorted(times)
    assert len(times) == 55


BY_PARTITION = {
    *("event_log_partitions", "event_log_action_heads", "event_log_positions"),
    *("event_log_state_committed", "event_log_reducer_gave_up"),
    *("event_log_fsm_state_transitioned", "event_log_action", "event_log_intent"),
    *("timers", "effects", "effect_log", "projection_watermarks", "bus_positions"),
}
"""What `services/repartition.sql` moves, makes anew or sets."""


async def test_no_table_tells_of_partitions_that_the_change_does_not_know(
    database_url: str,
) -> None:
    rows = await fetch(
        database_url,
        "SELECT DISTINCT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
        " AND a.attname IN ('partition', 'partition_id', 'home', 'offset', 'commit_offset')",
    )
    assert {row["relname"] for row in rows} == BY_PARTITION


async def test_as_many_partitions_as_there_can_be_and_back(database_url: str) -> None:
    async with Bridge.open(counting, database_url=database_url, partitions=2) as bridge:
        for n in range(20):
            await bridge.submit(f"counter:{n}", "Counted", {})
        await bridge.settled()
    held = await by_key(database_url)
    for number in (256, 2):
        assert (await repartition(number, database_url=database_url)).partitions == number
        assert await by_key(database_url) == held
        assert await misplaced(database_url, number) == []
