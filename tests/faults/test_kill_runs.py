"""`kill -9` in the middle of runs: each continues where it was, and ends as it would have."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge import Bridge
from tests.faults.runner import bank, run
from tests.servers import until_stopped

if TYPE_CHECKING:
    from pathlib import Path

KILLS: Final = 6
ANSWER_WAIT_S: Final = 60.0


async def start_and_kill(data_dir: Path, first: int, ended: dict[int, str]) -> int:
    """Start a process that runs, kill it after its first end; return the next number."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.runner", str(data_dir), str(first)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    following, kill = first, None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(ANSWER_WAIT_S):
            while line := (await process.stdout.readline()).decode():
                match line.split():
                    case ["started", number] if line.endswith("\n"):
                        following = max(following, int(number) + 1)
                    case ["ended", number, status] if line.endswith("\n"):
                        ended[int(number)] = status
                        if kill is None:
                            delay_s = random.uniform(0, 0.3)  # noqa: S311 - no secret
                            kill = loop.call_later(delay_s, process.send_signal, signal.SIGKILL)
                    case _:
                        pass
    finally:
        if kill is None:
            process.kill()
        await process.wait()
    return following


@pytest.mark.timeout(300)
async def test_a_run_that_is_killed_anywhere_continues_where_it_was(server_folder: Path) -> None:
    data_dir, ended, following = server_folder / "data", dict[int, str](), 0
    for _ in range(KILLS):
        following = await start_and_kill(data_dir, following, ended)
    folder = server_folder / "bank"
    async with Bridge.open(bank(folder), data_dir=data_dir) as bridge:
        for number in range(following):  # joins those that began, starts those that did not
            outcome = await run(bridge, number)
            expected = "COMPENSATED" if number % 3 == 0 else "COMPLETED"
            assert (number, outcome.status) == (number, expected)
            assert ended.get(number, expected) == expected
        assert following > KILLS, "hardly anything was started: no test"
        await bridge.settled()
        for number in range(following):
            assert (folder / f"{number}-charge.charged").exists()
            assert (folder / f"{number}-charge.refunded").exists() == (number % 3 == 0)
        held = {f"stock:tea-{sku}": set[str]() for sku in range(5)} | {"stock:more": set()}
        for number in range(following):
            if number % 3:
                held[f"stock:tea-{number % 5}"].add(str(number))
                held["stock:more"].add(str(number))
        for key, orders in held.items():
            state = await bridge.state(key)
            assert state is not None
            assert state.state["held"].keys() == orders
        assert (await bridge.verify()).mismatches == []
    await until_stopped(data_dir)
