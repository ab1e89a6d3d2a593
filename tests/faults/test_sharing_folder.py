"""Two commands on one data folder: they share its partitions, and its server outlives either."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge import Bridge
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from tests.bridges import app
from tests.programs import PROGRAM
from tests.servers import until_stopped

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

WAIT_S: Final = 30.0
KEYS: Final = [f"counter:{n}" for n in range(20)]


@asynccontextmanager
async def serving(data_dir: Path) -> AsyncIterator[Process]:
    """Run `run --app` in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "run", "--app", "tests.bridges:app", "--data-dir", str(data_dir)),
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_it_says(process: Process, words: str) -> float:
    """Wait for a line that ends with `words`; return how many seconds that took."""
    assert process.stderr is not None
    began, lines = monotonic(), []
    async with asyncio.timeout(WAIT_S):
        while line := (await process.stderr.readline()).decode().strip():
            lines.append(line)
            if line.endswith(words):
                return monotonic() - began
    pytest.fail(f"it ended, having said {lines}")


@pytest.mark.parametrize(
    ("sent", "within_s"), [(signal.SIGKILL, 5.0), (signal.SIGTERM, 1.0)], ids=["killed", "stopped"]
)
async def test_who_started_the_server_goes_and_the_other_one_serves_on(
    server_folder: Path, sent: signal.Signals, within_s: float
) -> None:
    data_dir = server_folder / "data"
    async with serving(data_dir) as first:
        await until_it_says(first, "partitions here: 0, 1, 2, 3")
        async with serving(data_dir) as second:
            await until_it_says(second, "partitions here: 2, 3")
            await until_it_says(first, "partitions here: 0, 1")
            first.send_signal(sent)
            assert await until_it_says(second, "partitions here: 0, 1, 2, 3") < within_s + 0.3
            await first.wait()
            async with Bridge.open(app, data_dir=data_dir) as third:
                asked = [third.submit(key, "Counted", {"amount": 1}) for key in KEYS]
                assert {
                    outcome.committed().version for outcome in await asyncio.gather(*asked)
                } == {1}
                verification = await third.verify()
                assert (verification.mismatches, verification.actions) == ([], len(KEYS))
            second.terminate()
            await second.wait()
    await until_stopped(data_dir)


async def test_who_comes_alone_after_a_kill_does_not_wait_for_leases(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with serving(data_dir) as first:
        await until_it_says(first, "partitions here: 0, 1, 2, 3")
        async with EmbeddedServer(data_dir).use():
            first.kill()
            await first.wait()
            began = monotonic()
            async with Bridge.open(app, data_dir=data_dir) as bridge:
                outcome = await bridge.submit("counter:1", "Counted", {"amount": 1})
                assert outcome.committed().version == 1
                assert monotonic() - began < 2


async def test_who_has_the_folder_alone_is_waited_for_and_waits_for_all(
    server_folder: Path,
) -> None:
    data_dir = server_folder / "data"
    server = EmbeddedServer(data_dir)
    told: list[str] = []
    async with server.writing():
        opening = asyncio.create_task(count_one(data_dir, told))
        while not told:  # noqa: ASYNC110 - it is told once
            await asyncio.sleep(0.01)
    await opening
    async with Bridge.open(app, data_dir=data_dir):
        alone = asyncio.create_task(be_alone(server, told))
        while len(told) < 2:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        assert not alone.done()
    async with asyncio.timeout(WAIT_S):
        await alone
    assert told == ["the bridge waits", "who is alone waits"]


async def count_one(data_dir: Path, told: list[str]) -> None:
    """Open a bridge and count."""
    waits = "the bridge waits"
    async with Bridge.open(app, data_dir=data_dir, on_wait=lambda: told.append(waits)) as bridge:
        assert (await bridge.submit("counter:1", "Counted", {})).committed().version == 1


async def be_alone(server: EmbeddedServer, told: list[str]) -> None:
    """Be the only writer for a moment."""
    async with server.writing(lambda: told.append("who is alone waits")):
        pass
