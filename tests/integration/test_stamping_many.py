"""Many files: exact, and fast enough to wait for. Minutes; asked for by `-m soak`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge import Bridge
from omninode_bridge.stamping import Problem, app, check, stamp
from tests.integration.stamping import totals_of, totals_on_disk, write
from tests.servers import until_stopped

if TYPE_CHECKING:
    from pathlib import Path

FILES_PER_FOLDER: Final = 250
NAMES: Final = ("txt", "py", "json", "unheard-of")


def make_tree(folder: Path, files: int) -> Path:
    for number in range(files):
        name = f"{number // FILES_PER_FOLDER}/{number}.{NAMES[number % len(NAMES)]}"
        write(folder, name, f"content {number}\n" * (number % 100))
    return folder


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("files", [20_000, 100_000])
async def test_many_files_are_stamped_once_found_unchanged_and_taken_out(
    server_folder: Path, tmp_path: Path, files: int
) -> None:
    tree, data_dir = make_tree(tmp_path / "tree", files), server_folder / "data"
    problems: list[Problem] = []
    async with Bridge.open(app, data_dir=data_dir) as bridge:
        first = await stamp(bridge, tree, "docs", report=problems.append)
        assert (first.files, first.new, first.actions) == (files, files, files)
        assert await totals_of(bridge, "docs") == totals_on_disk(tree, total_stamps=files)
        # Said rather than judged: what a machine can do is its own affair.
        print(f"{files / first.seconds:,.0f} files/s")  # noqa: T201

        second = await stamp(bridge, tree, "docs", prune=True, report=problems.append)
        assert (second.unchanged, second.actions) == (files, 0)
        assert (await check(bridge, tree, "docs")).ok

        third = await stamp(bridge, tree / "0", "docs", prune=True, report=problems.append)
        assert (third.new, third.removed) == (FILES_PER_FOLDER, files)
        expected = totals_on_disk(tree / "0", total_stamps=files + FILES_PER_FOLDER)
        assert await totals_of(bridge, "docs") == expected
        verification = await bridge.verify()
        assert verification.mismatches == []
        assert verification.actions == 2 * (2 * files + FILES_PER_FOLDER)
    assert problems == []
    await until_stopped(data_dir)
