"""`check` compares a folder with its stamps, and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from omninode_bridge import Bridge
from omninode_bridge.stamping import Comparison, Problem, app, check, stamp
from tests.integration.stamping import committed_in_all, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SAME = Comparison(ok=True, changed=[], missing=[], new=[])


@pytest.fixture
async def bridge(database_url: str) -> AsyncIterator[Bridge]:
    async with Bridge.open(app, database_url=database_url) as opened:
        yield opened


@pytest.fixture
async def tree(tmp_path: Path, bridge: Bridge) -> Path:
    """A folder that is stamped in `docs`."""
    folder = tmp_path / "tree"
    for name in ("a.txt", "b.txt", "docs/c.txt", "docs/d.txt"):
        write(folder, name, name)
    await stamp(bridge, folder, "docs")
    return folder


async def test_a_folder_that_is_as_it_was_stamped_is_ok(bridge: Bridge, tree: Path) -> None:
    assert await check(bridge, tree, "docs") == SAME
    assert SAME.as_dict() == {"ok": True, "changed": [], "missing": [], "new": []}


async def test_what_differs_is_told_by_path_in_order_and_nothing_is_committed(
    bridge: Bridge, tree: Path
) -> None:
    before = await committed_in_all(bridge)
    write(tree, "docs/d.txt", "other")
    write(tree, "a.txt", "other")
    (tree / "b.txt").unlink()
    (tree / "docs/c.txt").unlink()
    write(tree, "z", "new")
    write(tree, "docs/new", "new")
    expected = Comparison(
        ok=False,
        changed=["a.txt", "docs/d.txt"],
        missing=["b.txt", "docs/c.txt"],
        new=["docs/new", "z"],
    )
    assert await check(bridge, tree, "docs") == expected
    assert await check(bridge, tree, "docs") == expected
    assert await committed_in_all(bridge) == before
    await stamp(bridge, tree, "docs", prune=True)
    assert await check(bridge, tree, "docs") == SAME


async def test_a_namespace_without_stamps_has_everything_new(bridge: Bridge, tree: Path) -> None:
    found = await check(bridge, tree, "other")
    assert found == Comparison(
        ok=False, changed=[], missing=[], new=["a.txt", "b.txt", "docs/c.txt", "docs/d.txt"]
    )


async def test_a_removed_stamp_is_none(bridge: Bridge, tree: Path) -> None:
    (tree / "b.txt").unlink()
    await stamp(bridge, tree, "docs", prune=True)
    assert await check(bridge, tree, "docs") == SAME
    write(tree, "b.txt", "b.txt")
    assert await check(bridge, tree, "docs") == Comparison(
        ok=False, changed=[], missing=[], new=["b.txt"]
    )


async def test_stamps_of_excluded_files_are_missing(bridge: Bridge, tree: Path) -> None:
    found = await check(bridge, tree, "docs", exclude=frozenset({"docs"}))
    assert found.missing == ["docs/c.txt", "docs/d.txt"]
    assert await check(bridge, tree, "docs", left_out=tree / "docs") == found


async def test_links_are_reported_and_make_no_difference(bridge: Bridge, tree: Path) -> None:
    (tree / "link").symlink_to("a.txt")
    problems: list[Problem] = []
    assert await check(bridge, tree, "docs", report=problems.append) == SAME
    assert problems == [Problem("link", "skipped", "a symbolic link")]


async def test_a_file_that_cannot_be_stamped_is_not_ok(bridge: Bridge, tree: Path) -> None:
    write(tree, "not-utf-8-\udcff", "latin")
    problems: list[Problem] = []
    found = await check(bridge, tree, "docs", report=problems.append)
    assert found == Comparison(ok=False, changed=[], missing=[], new=[])
    assert problems == [Problem(r"not-utf-8-\xff", "failed", "its name is not UTF-8")]


async def test_a_bridge_that_only_reads_can_check(
    bridge: Bridge, database_url: str, tree: Path
) -> None:
    write(tree, "z", "new")
    async with Bridge.open(app, database_url=database_url, writing=False) as reading:
        assert await check(reading, tree, "docs") == await check(bridge, tree, "docs")


async def test_what_is_no_folder_or_no_namespace_is_refused(bridge: Bridge, tree: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await check(bridge, tree / "nothing", "docs")
    with pytest.raises(NotADirectoryError):
        await check(bridge, tree / "a.txt", "docs")
    with pytest.raises(ValueError, match="empty"):
        await check(bridge, tree, "")
