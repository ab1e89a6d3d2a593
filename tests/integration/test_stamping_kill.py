"""`kill -9` in the middle of a run, and what only another process can show."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import random
import shutil
import signal
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from omninode_bridge import Bridge
from omninode_bridge.stamping import app, stamp
from tests.integration.processes import interpreter_for
from tests.integration.stamping import committed_in_all, totals_of, totals_on_disk, write
from tests.servers import until_stopped

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Iterator

KILLS: Final = 5
FILES: Final = 2_500
WAIT_S: Final = 60.0
_PROGRAM: Final = Path(__file__).with_name("stamping_user.py")


@asynccontextmanager
async def stamping_user(
    mode: str, data_dir: Path, folder: Path, *, uid: int | None = None
) -> AsyncIterator[Process]:
    """Run `stamping_user.py`; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(interpreter_for(uid), str(_PROGRAM), mode, str(data_dir), str(folder), "docs"),
        stdout=asyncio.subprocess.PIPE,
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run_to_its_end(
    mode: str, data_dir: Path, folder: Path, *, uid: int | None = None
) -> dict[str, Any]:
    """Return what it says at its end."""
    async with stamping_user(mode, data_dir, folder, uid=uid) as process, asyncio.timeout(WAIT_S):
        assert process.stdout is not None
        said = (await process.stdout.read()).decode().splitlines()
        assert await process.wait() == 0
    found: dict[str, Any] = json.loads(said[-1])
    return found


# -- kill -9 ---------------------------------------------------------------------------------------


class Changes:
    """Changes a folder, round by round, and knows how many stamps that has to make."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.total_stamps = 0

    def make(self, number: int) -> None:
        """Write most files anew, each with another size; take some away, and some back."""
        for index in range(FILES):
            name = f"{index % 50}/{index}.{('txt', 'png', 'json')[(index + number) % 3]}"
            path = self.folder / name
            if (index + number) % 7 == 0:
                path.unlink(missing_ok=True)
            elif (index + number) % 5:
                write(self.folder, name, f"{number} {index}" * (1 + (index + number) % 3))
                self.total_stamps += 1


async def kill_in_the_middle(data_dir: Path, folder: Path) -> None:
    """Start a run, and kill it some time after its first files were stamped."""
    async with stamping_user("prune", data_dir, folder) as process, asyncio.timeout(WAIT_S):
        assert process.stdout is not None
        assert await process.stdout.readline() == b"begun\n"
        delay_s = random.uniform(0, 0.4)  # noqa: S311 - no secret
        kill = asyncio.get_running_loop().call_later(delay_s, process.send_signal, signal.SIGKILL)
        await process.stdout.read()
        kill.cancel()


@pytest.mark.timeout(300)
async def test_killed_half_way_and_run_again_the_totals_are_exact(
    server_folder: Path, tmp_path: Path
) -> None:
    data_dir, changes = server_folder / "data", Changes(tmp_path / "tree")
    in_the_middle = 0
    for number in range(KILLS):
        changes.make(number)
        await kill_in_the_middle(data_dir, changes.folder)
        async with Bridge.open(app, data_dir=data_dir) as bridge:
            summary = await stamp(bridge, changes.folder, "docs", prune=True)
            in_the_middle += summary.actions > 0
            expected = totals_on_disk(changes.folder, changes.total_stamps)
            assert await totals_of(bridge, "docs") == expected
            if number == KILLS - 1:
                row = await bridge.state("namespace:docs")
                assert row is not None
                assert await committed_in_all(bridge) == 2 * row.version
    assert in_the_middle, "no run was killed before its end: no test"
    await until_stopped(data_dir)


# -- what root may read and others may not ---------------------------------------------------------


@pytest.fixture
def uid() -> int | None:
    """Return an ordinary user's id when we are root; None when we are one."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


@pytest.fixture
def home(uid: int | None) -> Iterator[Path]:
    """Yield a folder that belongs to the ordinary user."""
    folder = Path(tempfile.mkdtemp(prefix="omninode-bridge-test-"))
    if uid is not None:
        os.chown(folder, uid, uid)
    yield folder
    (folder / "tree" / "closed").chmod(0o700)
    shutil.rmtree(folder)


async def test_what_cannot_be_read_is_reported_and_its_stamps_stay(
    home: Path, uid: int | None
) -> None:
    data_dir, tree = home / "data", home / "tree"
    for name in ("a.txt", "b.txt", "c.txt", "closed/d.txt", "closed/e/f.txt", "gone/g.txt"):
        write(tree, name, name)
    stamped = await run_to_its_end("stamp", data_dir, tree, uid=uid)
    assert stamped["problems"] == []
    assert stamped["found"]["new"] == 6

    (tree / "b.txt").chmod(0)
    write(tree, "never-read.txt", "")
    (tree / "never-read.txt").chmod(0)
    (tree / "closed").chmod(0)
    (tree / "gone" / "g.txt").unlink()
    pruned = await run_to_its_end("prune", data_dir, tree, uid=uid)
    problems = [
        ["b.txt", "failed", "Permission denied"],
        ["closed", "failed", "Permission denied"],
        ["never-read.txt", "failed", "Permission denied"],
    ]
    assert sorted(pruned["problems"]) == problems
    told = {what: pruned["found"][what] for what in ("files", "unchanged", "removed", "failed")}
    assert told == {"files": 2, "unchanged": 2, "removed": 1, "failed": 3}

    (tree / "c.txt").unlink()
    checked = await run_to_its_end("check", data_dir, tree, uid=uid)
    assert sorted(checked["problems"]) == problems
    assert checked["found"] == {"ok": False, "changed": ["b.txt"], "missing": ["c.txt"], "new": []}
    await until_stopped(data_dir)


async def test_of_a_folder_that_can_be_listed_but_not_entered_nothing_is_gone(
    home: Path, uid: int | None
) -> None:
    data_dir, tree = home / "data", home / "tree"
    for name in ("a.txt", "closed/d.txt", "closed/e/f.txt"):
        write(tree, name, name)
    await run_to_its_end("stamp", data_dir, tree, uid=uid)
    (tree / "closed").chmod(0o444)
    pruned = await run_to_its_end("prune", data_dir, tree, uid=uid)
    assert sorted(pruned["problems"]) == [
        ["closed/d.txt", "failed", "Permission denied"],
        ["closed/e", "failed", "Permission denied"],
    ]
    assert (pruned["found"]["unchanged"], pruned["found"]["removed"]) == (1, 0)
    await until_stopped(data_dir)
