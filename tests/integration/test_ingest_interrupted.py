"""`kill -9` while a file is ingested: the next run goes on, and every row counts once."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import pytest

from omninode_bridge import App, Bridge
from omninode_bridge.ingest import stored_app
from tests.integration.ingesting import ROUND, write_rounds
from tests.servers import until_stopped

if TYPE_CHECKING:
    from pathlib import Path

KILLS: Final = 4
ROWS: Final = 30_000
KEYS: Final = 50
WAIT_S: Final = 120.0


async def ingesting(*arguments: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.ingesting", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
    )


async def killed_under_way(*arguments: Path) -> None:
    """Kill a run some time after its first rows were under way."""
    began = monotonic()
    process = await ingesting(*arguments)
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        assert await process.stdout.readline()
        # On a machine that is slow to start it, it is slow to commit.
        delay_s = random.uniform(0, max(0.5, (monotonic() - began) / 2))  # noqa: S311 - no secret
        kill = asyncio.get_running_loop().call_later(delay_s, process.send_signal, signal.SIGKILL)
        said = await process.stdout.read()
        kill.cancel()
        await process.wait()
    assert b"committed" not in said, "the run was over before it was killed: no test"


async def done(*arguments: Path) -> dict[str, Any]:
    """Let a run end, and return its summary."""
    process = await ingesting(*arguments)
    async with asyncio.timeout(WAIT_S):
        said, _ = await process.communicate()
    assert process.returncode == 0
    summary: dict[str, Any] = json.loads(said.splitlines()[-1])
    return summary


@pytest.mark.timeout(300)
async def test_an_interrupted_run_goes_on_and_every_row_counts_once(
    server_folder: Path, tmp_path: Path
) -> None:
    data_dir, file, contract = server_folder / "data", tmp_path / "log.csv", tmp_path / "round.json"
    contract.write_text(ROUND)
    write_rounds(file, keys=KEYS, rows=ROWS)
    for _ in range(KILLS):
        await killed_under_way(data_dir, file, contract)

    summary = await done(data_dir, file, contract)
    assert summary["rows"] == summary["actions"] == ROWS
    assert summary["committed"] + summary["duplicates"] == ROWS
    assert summary["duplicates"] > 0, "nothing was committed before the kills: no test"
    assert summary["rejected"] == 0, "a row was applied out of order"
    assert (await done(data_dir, file, contract))["duplicates"] == ROWS

    async with Bridge.open(App("reader"), data_dir=data_dir, writing=False) as bridge:
        app = await stored_app(bridge)
    async with Bridge.open(app, data_dir=data_dir, writing=False) as bridge:
        verification = await bridge.verify()
        states = [await bridge.state(f"round:{key}") for key in range(KEYS)]
    assert verification.mismatches == []
    assert verification.unregistered == {}
    assert verification.actions == ROWS + 1
    assert sum(sum(s.state["counts"].values()) for s in states if s is not None) == ROWS
    await until_stopped(data_dir)
