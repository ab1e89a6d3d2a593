"""The contract of `ProjectionLog`: rows and watermark move together, and never back (R7)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from omninode_bridge.core.errors import BrokenPromise, ValueRefused
from omninode_bridge.core.reducer import Absorbed
from tests.contract.batches import accepted, action, committed, folded
from tests.contract.ports import AT

if TYPE_CHECKING:
    from tests.contract.ports import Ports


async def test_an_entry_brings_the_projection_that_was_made_in_the_worker(ports: Ports) -> None:
    commit = await folded(ports.store, action(payload={"amount": 7}))
    accepted(await ports.store.commit(commit))
    (entry,) = await ports.projections.read(0, 1, 10)
    (step,) = commit.steps
    assert isinstance(step, Absorbed)
    assert entry.projection == step.projection
    assert (entry.offset, entry.workflow_key, entry.version) == (1, "counter:1", 1)
    assert (entry.action_type, entry.committed_at) == ("Counted", AT)


async def test_a_page_begins_at_the_position_and_has_its_limit(ports: Ports) -> None:
    await committed(ports, *(action() for _ in range(5)))
    assert [entry.version for entry in await ports.projections.read(0, 2, 3)] == [2, 3, 4]
    assert list(await ports.projections.read(0, 6, 3)) == []
    assert list(await ports.projections.read(1, 1, 3)) == []


async def test_the_watermark_begins_at_1_and_moves_with_the_rows(ports: Ports) -> None:
    assert [await ports.projections.watermark(n) for n in (0, 1)] == [1, 1]
    await committed(ports, action(), action(), action("counter:2"))
    entries = await ports.projections.read(0, 1, 10)
    assert await ports.projections.apply(0, 1, 4, entries) == 4
    assert [await ports.projections.watermark(n) for n in (0, 1)] == [4, 1]
    assert await ports.beside.row("counter:1") == (2, "even", "Counted")
    assert await ports.beside.row("counter:2") == (1, "odd", "Counted")
    assert await ports.beside.row("counter:3") is None


async def test_applying_twice_is_applying_once(ports: Ports) -> None:
    await committed(ports, action())
    entries = await ports.projections.read(0, 1, 10)
    assert await ports.projections.apply(0, 1, 2, entries) == 2
    assert await ports.projections.apply(0, 1, 2, entries) == 2
    assert await ports.beside.row("counter:1") == (1, "odd", "Counted")
    assert await ports.projections.apply(0, 2, 2, []) == 2


async def test_who_expects_another_watermark_writes_nothing_and_is_told_the_one_there_is(
    ports: Ports,
) -> None:
    await committed(ports, action(), action("counter:2"))
    first, second = await ports.projections.read(0, 1, 10)
    assert await ports.projections.apply(0, 1, 2, [first]) == 2
    assert await ports.projections.apply(0, 1, 3, [first, second]) == 2
    assert await ports.beside.row("counter:2") is None
    assert await ports.projections.apply(0, 5, 6, [second]) == 2
    assert await ports.beside.row("counter:2") is None
    assert await ports.projections.watermark(0) == 2


async def test_of_materializers_at_once_each_entry_is_applied_once(ports: Ports) -> None:
    await committed(ports, *(action(f"counter:{n}") for n in range(4)))
    entries = await ports.projections.read(0, 1, 10)
    found = await asyncio.gather(
        *(ports.projections.apply(0, 1, 2 + n, entries[: n + 1]) for n in range(4))
    )
    assert len(set(found)) == 1
    watermark = found[0]
    assert watermark == await ports.projections.watermark(0)
    rows = [await ports.beside.row(f"counter:{n}") for n in range(4)]
    assert [row is not None for row in rows] == [n < watermark - 1 for n in range(4)]


async def test_a_row_never_goes_back_to_an_older_version(ports: Ports) -> None:
    await committed(ports, action(), action(), action())
    first, second, third = await ports.projections.read(0, 1, 10)
    assert await ports.projections.apply(0, 1, 4, [first, second, third]) == 4
    assert await ports.projections.apply(0, 4, 5, [first]) == 5
    assert await ports.projections.apply(0, 5, 6, [replace(third, action_type="Again")]) == 6
    assert await ports.beside.row("counter:1") == (3, "odd", "Counted")


async def test_a_watermark_that_would_go_back_is_an_error_and_changes_nothing(
    ports: Ports,
) -> None:
    await committed(ports, action())
    entries = await ports.projections.read(0, 1, 10)
    assert await ports.projections.apply(0, 1, 2, entries) == 2
    with pytest.raises(BrokenPromise):
        await ports.projections.apply(0, 2, 1, [replace(entries[0], version=9)])
    assert await ports.projections.watermark(0) == 2
    assert await ports.beside.row("counter:1") == (1, "odd", "Counted")


@pytest.mark.parametrize(
    "spoilt",
    [
        {"tag": "\0"},
        {"namespace": "\0"},
        {"indices": b'{"a":"\\u0000"}'},
        {"extras": b'{"a":"\\ud800"}'},
    ],
)
async def test_a_row_that_cannot_be_stored_moves_no_watermark(
    ports: Ports, spoilt: dict[str, Any]
) -> None:
    await committed(ports, action(), action("counter:2"))
    first, second = await ports.projections.read(0, 1, 10)
    bad = replace(second, projection=replace(second.projection, **spoilt))
    with pytest.raises(ValueRefused):
        await ports.projections.apply(0, 1, 3, [first, bad])
    assert await ports.projections.watermark(0) == 1
    assert await ports.beside.row("counter:1") is None
    assert await ports.projections.apply(0, 1, 3, [first, second]) == 3
