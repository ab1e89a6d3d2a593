"""Runs of one namespace at once, and outages in the middle of one: the totals stay exact."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge import Bridge, DatabaseUnavailable, OutcomeUnknown
from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.stamping import Progress, app, asking, check, stamp
from tests.faults.server import StoppableServer
from tests.integration.stamping import committed_in_all, totals_of, totals_on_disk, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FILES: Final = 500
OUTAGE_FILES: Final = 2_000


def make_tree(folder: Path, files: int) -> Path:
    for number in range(files):
        write(folder, f"{number % 10}/{number}.txt", f"content {number}")
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", FILES)


async def test_two_runs_over_one_folder_stamp_each_file_once(database_url: str, tree: Path) -> None:
    async with (
        Bridge.open(app, database_url=database_url) as one,
        Bridge.open(app, database_url=database_url) as other,
    ):
        first, second = await asyncio.gather(stamp(one, tree, "docs"), stamp(other, tree, "docs"))
        assert first.failed == second.failed == 0
        assert first.files == second.files == FILES
        assert first.new + second.new == first.actions + second.actions == FILES
        assert await totals_of(one, "docs") == totals_on_disk(tree, total_stamps=FILES)
        assert await committed_in_all(one) == 2 * FILES


async def test_runs_that_disagree_leave_totals_that_are_the_sum_of_what_is_stamped(
    database_url: str, tree: Path, tmp_path: Path
) -> None:
    other_tree = tmp_path / "other"
    for number in range(0, 2 * FILES, 2):
        write(other_tree, f"{number % 10}/{number}.txt", f"other content of {number}")
    async with (
        Bridge.open(app, database_url=database_url) as one,
        Bridge.open(app, database_url=database_url) as other,
    ):
        for prune in (False, True):
            await asyncio.gather(
                stamp(one, tree, "docs", prune=prune),
                stamp(other, other_tree, "docs", prune=prune),
            )
            await one.settled()
            totals = await totals_of(one, "docs")
            sizes = await stamped_sizes(one)
            assert (totals["files"], totals["total_size_bytes"]) == (len(sizes), sum(sizes))
        await stamp(other, tree, "docs", prune=True)
        stamps = (await totals_of(one, "docs"))["total_stamps"]
        assert await totals_of(one, "docs") == totals_on_disk(tree, total_stamps=stamps)
        assert (await check(one, tree, "docs")).ok
        await committed_in_all(one)


async def stamped_sizes(bridge: Bridge) -> list[int]:
    sizes: list[int] = []
    after: str | None = None
    while page := await bridge.list(namespace="docs", tag="stamped", after=after, limit=500):
        sizes += [(row.indices or {})["file_size"] for row in page]
        after = page[-1].workflow_key
    return sizes


# -- outages ---------------------------------------------------------------------------------------


class Halfway:
    """A run of `stamp` that has stamped its first files."""

    def __init__(self, bridge: Bridge, tree: Path) -> None:
        self._reached = asyncio.Event()
        self.run = asyncio.create_task(stamp(bridge, tree, "docs", progress=self._progress))

    async def reached(self) -> None:
        """Return when it is half way."""
        async with asyncio.timeout(30):
            await self._reached.wait()

    def _progress(self, now: Progress) -> None:
        if now.files_done:
            self._reached.set()


@pytest.fixture
async def server(server_folder: Path) -> AsyncIterator[StoppableServer]:
    """A migrated server that the test may stop."""
    async with StoppableServer(server_folder / "server") as running:
        await migrations.upgrade({"dsn": running.url})
        yield running


@pytest.mark.timeout(180)
async def test_an_outage_in_the_middle_of_a_run_costs_nothing(
    server: StoppableServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ANSWER_WAIT_S", 0.5)
    monkeypatch.setattr(asking, "TRIES", 100)
    tree = make_tree(tmp_path / "tree", OUTAGE_FILES)
    async with Bridge.open(app, database_url=server.url) as bridge:
        half_way = Halfway(bridge, tree)
        await half_way.reached()
        await server.stop("immediate")
        await asyncio.sleep(4 * asking.ANSWER_WAIT_S)  # an outage of this length
        assert not half_way.run.done()
        await server.start()
        summary = await half_way.run
        assert (summary.new, summary.failed) == (OUTAGE_FILES, 0)
        assert await totals_of(bridge, "docs") == totals_on_disk(tree, total_stamps=OUTAGE_FILES)
        assert await committed_in_all(bridge) == 2 * OUTAGE_FILES


@pytest.mark.timeout(180)
async def test_an_outage_that_does_not_end_ends_the_run_and_the_next_one_completes_it(
    server: StoppableServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path / "tree", OUTAGE_FILES)
    async with Bridge.open(app, database_url=server.url) as bridge:
        half_way = Halfway(bridge, tree)
        await half_way.reached()
        monkeypatch.setattr(asking, "ANSWER_WAIT_S", 0.5)
        monkeypatch.setattr(asking, "OUTAGE_WAIT_S", 0.5)
        monkeypatch.setattr(asking, "TRIES", 2)
        await server.stop("immediate")
        with pytest.raises((OutcomeUnknown, DatabaseUnavailable)):
            await half_way.run
        await server.start()
        monkeypatch.undo()
        summary = await stamp(bridge, tree, "docs")
        assert summary.files == OUTAGE_FILES
        assert await totals_of(bridge, "docs") == totals_on_disk(tree, total_stamps=OUTAGE_FILES)
        assert await committed_in_all(bridge) == 2 * OUTAGE_FILES


@pytest.mark.timeout(180)
async def test_a_run_that_begins_in_an_outage_waits_for_its_end_but_not_for_ever(
    server: StoppableServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "OUTAGE_WAIT_S", 0.1)
    monkeypatch.setattr(asking, "TRIES", 2)
    tree = make_tree(tmp_path / "tree", 10)
    async with Bridge.open(app, database_url=server.url) as bridge:
        await server.stop("immediate")
        with pytest.raises(DatabaseUnavailable):
            await stamp(bridge, tree, "docs")
        monkeypatch.setattr(asking, "TRIES", 100)
        run = asyncio.create_task(stamp(bridge, tree, "docs"))
        await server.start()
        assert (await run).new == 10
        assert await totals_of(bridge, "docs") == totals_on_disk(tree, total_stamps=10)
