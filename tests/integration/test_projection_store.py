"""Reads of the projection that see at least a version (R8), and share one wake-up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from omninode_bridge.core.errors import DatabaseUnavailable, VersionNotReached
from omninode_bridge.core.message import StateCommitted
from omninode_bridge.services.projection_store import POLL_MS, WAITERS_MAX
from tests.bridges import until
from tests.integration.stores import KEY, Stores, stores

if TYPE_CHECKING:
    import asyncpg

__all__ = ["stores"]


async def committed(stores: Stores, version: int, key: str = KEY) -> None:
    """Commit `version` of `key`."""
    state = {"count": version, "total": version}
    outcome = await stores.canonical.try_commit(key, version - 1, state)
    assert isinstance(outcome, StateCommitted)


async def test_the_version_of_a_row_is_0_until_there_is_one(stores: Stores) -> None:
    assert await stores.projections.get_version(KEY) == 0
    await committed(stores, 1)
    assert await stores.projections.get_version(KEY) == 0, "the projection is behind"
    await stores.project()
    assert await stores.projections.get_version(KEY) == 1


async def test_a_read_that_requires_nothing_waits_for_nothing(stores: Stores) -> None:
    assert await stores.projections.get_state(KEY) is None
    await committed(stores, 1)
    assert await stores.projections.get_state(KEY) is None
    await stores.project()
    row = await stores.projections.get_state(KEY)
    assert row is not None
    assert (row.version, row.tag, row.namespace, row.indices) == (
        1,
        "odd",
        "counters",
        {"total": 1},
    )


async def test_after_the_wait_the_canonical_store_answers_with_equal_content(
    stores: Stores,
) -> None:
    for version in (1, 2, 3):
        await committed(stores, version)
    late = await stores.projections.get_state(KEY, required_version=2, max_wait_ms=1)
    at_once = await stores.projections.get_state(KEY, required_version=3, max_wait_ms=0)
    await stores.project()
    projected = await stores.projections.get_state(KEY, required_version=3)
    assert late == at_once == projected


async def test_a_version_nobody_committed_is_an_error_that_says_the_one_there_is(
    stores: Stores,
) -> None:
    with pytest.raises(VersionNotReached) as missing:
        await stores.projections.get_state(KEY, required_version=1, max_wait_ms=1)
    assert missing.value.actual_version == 0
    await committed(stores, 1)
    with pytest.raises(VersionNotReached) as behind:
        await stores.projections.get_state(KEY, required_version=2, max_wait_ms=1)
    assert (behind.value.required_version, behind.value.actual_version) == (2, 1)


async def until_waiting(stores: Stores, waiters: int) -> None:
    """Return when so many reads wait for a version."""
    await until(lambda: stores.projections._waiting >= waiters, f"{waiters} waiters")


async def test_a_waiter_is_woken_by_the_version_it_waits_for_and_by_its_key_alone(
    stores: Stores,
) -> None:
    await committed(stores, 1)
    await committed(stores, 1, "counter:2")
    stores.projections._poll_s = 60.0  # nobody asks the database in this test
    read = stores.projections.get_state
    waiting = asyncio.create_task(read(KEY, required_version=2, max_wait_ms=30_000))
    await until_waiting(stores, 1)
    await stores.project()
    stores.projections.advanced([("counter:2", 2, "even"), (KEY, 1, "odd")])
    await asyncio.sleep(0)
    assert not waiting.done(), "neither another key nor an older version"
    assert stores.projections._waiting == 1
    await committed(stores, 2)
    await stores.project()
    stores.projections.advanced([(KEY, 2, "even")])
    async with asyncio.timeout(10):
        row = await waiting
    assert row is not None
    assert row.version == 2
    assert stores.projections._waiters == {}


async def test_a_later_version_wakes_too_and_all_who_wait(stores: Stores) -> None:
    await committed(stores, 1)
    await committed(stores, 2)
    stores.projections._poll_s = 60.0
    read = stores.projections.get_state
    waiting = [
        asyncio.create_task(read(KEY, required_version=1 + n % 2, max_wait_ms=30_000))
        for n in range(10)
    ]
    await until_waiting(stores, 10)
    await stores.project()
    stores.projections.advanced([(KEY, 2, "even")])
    async with asyncio.timeout(10):
        rows = await asyncio.gather(*waiting)
    assert {row.version for row in rows if row is not None} == {2}


async def test_waiters_share_one_question_however_many_they_are(stores: Stores) -> None:
    keys = [f"counter:{n}" for n in range(50)]
    for key in keys:
        await committed(stores, 1, key)
    stores.projections._poll_s = 60.0
    stores.database.statements.clear()
    read = stores.projections.get_state
    waiting = [
        asyncio.create_task(read(keys[n % 50], required_version=1, max_wait_ms=30_000))
        for n in range(200)
    ]
    await until_waiting(stores, 200)
    await until(lambda: any("ANY" in each for each in stores.database.statements), "a question")
    asked = [each for each in stores.database.statements if "ANY" in each]
    assert len(asked) == 1, "no question of its own for each waiter"
    await stores.project()
    stores.projections.advanced((key, 1, "odd") for key in keys)
    async with asyncio.timeout(20):
        rows = await asyncio.gather(*waiting)
    assert {row.version for row in rows if row is not None} == {1}
    assert len([each for each in stores.database.statements if "ANY" in each]) == 1


async def test_what_another_process_projected_is_found_by_the_shared_question(
    stores: Stores,
) -> None:
    await committed(stores, 1)
    read = stores.projections.get_state
    waiting = [
        asyncio.create_task(read(KEY, required_version=1, max_wait_ms=30_000)) for _ in range(20)
    ]
    await until_waiting(stores, 20)
    stores.database.statements.clear()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await stores.project()
    async with asyncio.timeout(10):
        rows = await asyncio.gather(*waiting)
    assert {row.version for row in rows if row is not None} == {1}
    questions = sum("ANY" in each for each in stores.database.statements)
    assert questions <= 2 + (loop.time() - began) * 1000 / POLL_MS


async def test_a_poll_that_fails_leaves_the_waiters_to_their_bound(stores: Stores) -> None:
    await committed(stores, 1)
    service = stores.projections
    service._poll_s = 0.001
    failing = stores.database.fetch
    failures: list[str] = []

    async def fetch(statement: str, *arguments: object) -> list[asyncpg.Record]:
        if "ANY" in statement and len(failures) < 3:
            failures.append(statement)
            raise DatabaseUnavailable(statement)
        return await failing(statement, *arguments)

    stores.database.fetch = fetch  # type: ignore[method-assign]
    waiting = asyncio.create_task(service.get_state(KEY, required_version=1, max_wait_ms=30_000))
    await until_waiting(stores, 1)
    await stores.project()
    async with asyncio.timeout(10):
        row = await waiting
    assert row is not None
    assert row.version == 1


async def test_there_is_a_bound_on_waiters_beyond_which_nobody_waits(stores: Stores) -> None:
    await committed(stores, 1)
    stores.projections._waiting = WAITERS_MAX
    async with asyncio.timeout(10):
        row = await stores.projections.get_state(KEY, required_version=1, max_wait_ms=60_000)
    assert row is not None
    assert row.version == 1
    stores.projections._waiting = 0


async def test_an_advance_that_nobody_waits_for_is_no_work(stores: Stores) -> None:
    def versions() -> Any:  # noqa: ANN401 - would fail if anybody looked
        raise AssertionError
        yield

    stores.projections.advanced(versions())


async def test_who_waits_for_a_tag_is_woken_by_it_and_by_no_other(stores: Stores) -> None:
    with stores.projections.reaching(KEY, {"even"}) as reached:
        stores.projections.advanced([(KEY, 1, "odd"), ("counter:2", 2, "even")])
        assert not reached.done()
        stores.projections.advanced([(KEY, 2, "even")])
        assert reached.done()
    assert stores.projections._tag_waiters == {}
    assert stores.projections._waiting == 0


async def test_a_tag_that_another_process_projected_is_found_by_the_shared_question(
    stores: Stores,
) -> None:
    await committed(stores, 1)
    await committed(stores, 2)
    await stores.project()
    with (
        stores.projections.reaching(KEY, {"even"}) as reached,
        stores.projections.reaching(KEY, {"odd"}) as never,
    ):
        async with asyncio.timeout(10):
            await reached
        assert not never.done()
        questions = [each for each in stores.database.statements if "ANY" in each]
        assert len(questions) == 1


async def test_beyond_the_bound_on_waiters_nobody_is_woken_by_a_tag(stores: Stores) -> None:
    stores.projections._waiting = WAITERS_MAX
    with stores.projections.reaching(KEY, {"even"}) as reached:
        stores.projections.advanced([(KEY, 2, "even")])
        assert not reached.done()
    stores.projections._waiting = 0
