"""The canonical store and the remembered outcomes where they can do more than their ports say."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import (
    Provenance,
    ReducerGaveUp,
    StateCommitted,
    StateConflict,
)
from tests.integration.stores import KEY, STATE, Stores, stores

__all__ = ["stores"]


def provenance(**other: Any) -> Provenance:  # noqa: ANN401 - its fields
    """Return a provenance as an outside writer brings it."""
    fields: dict[str, Any] = {
        "effect_id": uuid4(),
        "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
        "action_id": uuid4(),
        "action_type": "Imported",
        "epoch": 3,
        "lease_id": uuid4(),
        "correlation_id": uuid4(),
        "chain": "",
    }
    return Provenance(**fields | other)


# -- try_commit -----------------------------------------------------------


async def test_a_state_is_replaced_when_the_key_is_where_it_was_expected(stores: Stores) -> None:
    first = await stores.canonical.try_commit(KEY, 0, STATE)
    assert isinstance(first, StateCommitted)
    assert (first.version, first.commit_offset, first.duplicate) == (1, 1, False)
    second = await stores.canonical.try_commit(KEY, 1, {"count": 2, "total": 8})
    assert isinstance(second, StateCommitted)
    row = await stores.canonical.get_state(KEY)
    assert row is not None
    assert (row.workflow_key, row.version, row.state) == (KEY, 2, {"count": 2, "total": 8})
    assert row.updated_at == second.provenance.timestamp
    assert row.provenance.action_id == second.action_id
    assert row.provenance.chain == second.provenance.chain != first.provenance.chain
    entries = await stores.log.read(0, 1, 10)
    assert [(entry.version, entry.action_type) for entry in entries] == [
        (1, "StateReplaced"),
        (2, "StateReplaced"),
    ]
    assert [entry.projection.tag for entry in entries] == ["odd", "even"]


async def test_a_key_never_seen_has_no_row(stores: Stores) -> None:
    assert await stores.canonical.get_state(KEY) is None


@pytest.mark.parametrize(("expected", "actual"), [(0, 1), (2, 1), (7, 1)])
async def test_another_version_than_expected_conflicts_and_changes_nothing(
    stores: Stores, expected: int, actual: int
) -> None:
    await stores.canonical.try_commit(KEY, 0, STATE)
    before = await stores.canonical.get_state(KEY)
    conflict = await stores.canonical.try_commit(KEY, expected, {"count": 9, "total": 9})
    assert isinstance(conflict, StateConflict)
    assert (conflict.expected_version, conflict.actual_version) == (expected, actual)
    assert await stores.canonical.get_state(KEY) == before
    assert len(await stores.log.read(0, 1, 10)) == 1


async def test_an_update_of_a_key_never_seen_conflicts_at_version_0(stores: Stores) -> None:
    conflict = await stores.canonical.try_commit(KEY, 1, STATE)
    assert isinstance(conflict, StateConflict)
    assert conflict.actual_version == 0
    assert await stores.canonical.get_state(KEY) is None


async def test_a_provenance_names_the_action_and_a_repeat_is_answered_the_same(
    stores: Stores,
) -> None:
    brought = provenance()
    first = await stores.canonical.try_commit(KEY, 0, STATE, brought)
    again = await stores.canonical.try_commit(KEY, 0, STATE, brought)
    assert isinstance(first, StateCommitted)
    assert first == again
    assert first.action_id == brought.action_id
    kept = first.provenance
    assert (kept.effect_id, kept.epoch, kept.lease_id, kept.correlation_id) == (
        brought.effect_id,
        brought.epoch,
        brought.lease_id,
        brought.correlation_id,
    )
    row = await stores.canonical.get_state(KEY)
    assert row is not None
    assert (row.version, row.provenance.epoch) == (1, 3)


async def test_an_id_that_belongs_to_something_else_is_refused(stores: Stores) -> None:
    brought = provenance()
    await stores.canonical.try_commit(KEY, 0, STATE, brought)
    with pytest.raises(InvalidAction) as refusal:
        await stores.canonical.try_commit(KEY, 1, {"count": 2, "total": 9}, brought)
    assert refusal.value.field == "action_id"
    processed = provenance()
    assert await remember(stores, processed.action_id)
    with pytest.raises(InvalidAction):
        await stores.canonical.try_commit(KEY, 1, STATE, processed)
    row = await stores.canonical.get_state(KEY)
    assert row is not None
    assert (row.version, row.state) == (1, STATE)


@pytest.mark.parametrize(
    ("key", "state", "says"),
    [
        (KEY, {"amount": float("nan")}, "nan is not a JSON number"),
        (KEY, {"text": "a\0b"}, "NUL"),
        (KEY, {"when": object()}, "not JSON"),
        (KEY, {"other": 1}, "KeyError: 'count'"),  # its projection fails
        ("nobody:1", STATE, "no reducer is registered for keys nobody:..."),
        ("nocolon", STATE, "form type:id"),
    ],
)
async def test_a_state_that_cannot_be_committed_is_an_error_and_changes_nothing(
    stores: Stores, key: str, state: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        await stores.canonical.try_commit(key, 0, state)
    assert await stores.canonical.get_state(key) is None
    assert await stores.log.read(0, 1, 10) == []


async def test_of_writers_at_once_one_commits_and_the_others_conflict(stores: Stores) -> None:
    tried = [stores.canonical.try_commit(KEY, 0, STATE | {"total": n}) for n in range(6)]
    outcomes = await asyncio.gather(*tried)
    assert sum(isinstance(outcome, StateCommitted) for outcome in outcomes) == 1
    assert {o.actual_version for o in outcomes if isinstance(o, StateConflict)} == {1}


# -- remembered outcomes -----------------------------------------------------------


async def test_what_was_committed_needs_no_processing_again(stores: Stores) -> None:
    brought = provenance()
    assert await stores.outcomes.should_process(KEY, brought.action_id)
    await stores.canonical.try_commit(KEY, 0, STATE, brought)
    assert not await stores.outcomes.should_process(KEY, brought.action_id)
    assert await stores.outcomes.should_process("counter:2", brought.action_id)
    with pytest.raises(InvalidAction):
        await stores.outcomes.should_process("nocolon", brought.action_id)


async def remember(stores: Stores, action_id: UUID, ttl_hours: float = 6) -> bool:
    """Remember `action_id` in a transaction that holds the partition."""
    async with stores.canonical.locked(0) as locked:
        return await stores.outcomes.remember(
            KEY, action_id, "a hash", ttl_hours, within=locked._connection
        )


async def test_an_id_is_remembered_once_within_the_commit(stores: Stores) -> None:
    action_id = uuid4()
    assert await remember(stores, action_id)
    assert not await remember(stores, action_id)
    assert not await stores.outcomes.should_process(KEY, action_id)
    async with stores.canonical.locked(0) as locked:
        outcome = (await locked.recall([(KEY, action_id)]))[KEY, action_id].outcome
    assert isinstance(outcome, ReducerGaveUp)
    assert outcome.reason == "cancelled"


async def test_what_a_failed_commit_remembered_is_not_remembered(stores: Stores) -> None:
    action_id = uuid4()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is the transaction
        async with stores.canonical.locked(0) as locked:
            await stores.outcomes.remember(KEY, action_id, "h", within=locked._connection)
            raise ZeroDivisionError
    assert await stores.outcomes.should_process(KEY, action_id)


async def test_remembering_outside_of_a_commit_is_refused(stores: Stores) -> None:
    async with stores.database.connection() as connection:
        with pytest.raises(ValueError, match="no open transaction"):
            await stores.outcomes.remember(KEY, uuid4(), "a hash", within=connection)


@pytest.mark.parametrize("ttl_hours", [0, -1])
async def test_a_time_to_remember_is_positive(stores: Stores, ttl_hours: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        await remember(stores, uuid4(), ttl_hours)


async def test_what_is_over_is_forgotten_and_until_then_it_counts(stores: Stores) -> None:
    short, long = uuid4(), uuid4()
    await remember(stores, short, ttl_hours=1)
    await remember(stores, long, ttl_hours=3)
    await stores.database.execute(
        "UPDATE action_dedup_log SET expires_at = expires_at - $1::INTERVAL", timedelta(hours=2)
    )
    assert not await stores.outcomes.should_process(KEY, short), "presence decides, not expiry"
    assert await stores.outcomes.cleanup_expired(10) == 1
    assert await stores.outcomes.should_process(KEY, short)
    assert not await stores.outcomes.should_process(KEY, long)
    assert await stores.outcomes.cleanup_expired(10) == 0
