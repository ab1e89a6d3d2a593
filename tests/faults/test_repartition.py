"""Processes that stood still, cut off, while the number of partitions changed: they end (R12)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from omninode_bridge import Bridge
from omninode_bridge.app.repartitioning import repartition
from tests.bridges import app, fetch
from tests.faults.test_sharing import (
    KEYS,
    WAIT_S,
    count_all,
    keys_of,
    line_of,
    say,
    until_shared,
)
from tests.integration.everything import by_key, misplaced
from tests.integration.repartitioning import dense, value
from tests.programs import PROGRAM

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

THEIRS = (
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND application_name = 'omninode-bridge'"
)


@asynccontextmanager
async def serving(*program: str) -> AsyncIterator[Process]:
    """Run it until it is killed, or ends; yield when it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *program),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        assert "ready" in " ".join(await line_of(process))
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def end_of(process: Process) -> tuple[int, str]:
    """Return the exit status of a process that ends by itself, and what it said to a person."""
    assert process.stderr is not None
    async with asyncio.timeout(WAIT_S):
        words = (await process.stderr.read()).decode()
        return await process.wait(), words


async def changed(database_url: str, partitions: int) -> None:
    """Change the number as soon as the one that stands still is past its lease, and cut off."""
    refused: set[str] = set()
    async with asyncio.timeout(WAIT_S):
        while (done := await repartition(partitions, database_url=database_url)).obstacles:
            refused |= {each.partition(":")[2] for each in done.obstacles}
            if "another bridge is connected" in done.obstacles[0]:
                await fetch(database_url, f"SELECT pg_terminate_backend(pid) {THEIRS}")
            await asyncio.sleep(0.2)
    assert refused, "it was seen as long as it could be"
    assert done.partitions == partitions


async def nobody_is_there(database_url: str) -> None:
    assert await value(database_url, "SELECT count(*) FROM event_log_members") == 0
    owned = "SELECT count(*) FROM event_log_partitions WHERE owner IS NOT NULL"
    assert await value(database_url, owned) == 0


@pytest.mark.parametrize("partitions", [2, 7])
async def test_a_process_that_stood_still_meanwhile_ends_and_says_why(
    database_url: str, partitions: int
) -> None:
    run = ("run", "--app", "tests.bridges:app", "--database-url", database_url, "--json")
    async with serving(str(PROGRAM), *run) as process:
        async with Bridge.open(app, database_url=database_url) as bridge:
            await until_shared(database_url, 2, 2)
            await count_all(bridge)
            await bridge.settled()
        await until_shared(database_url, 4)
        process.send_signal(signal.SIGSTOP)
        await changed(database_url, partitions)
        held = await by_key(database_url)
        process.send_signal(signal.SIGCONT)
        status, words = await end_of(process)
    assert status == 1
    assert "the number of partitions of this database was changed" in words
    assert "Traceback" not in words
    assert await by_key(database_url) == held
    await dense(database_url, partitions)
    await nobody_is_there(database_url)
    async with Bridge.open(app, database_url=database_url) as bridge:
        await count_all(bridge)
        await bridge.settled()
        verification = await bridge.verify()
        assert (verification.mismatches, verification.actions) == ([], 2 * len(KEYS))
    assert await misplaced(database_url, partitions) == []


@pytest.mark.parametrize("path", ["worker", "direct"])
async def test_of_a_batch_that_was_folded_before_nothing_becomes_durable_and_its_asker_is_told(
    database_url: str, path: str
) -> None:
    async with serving("-m", "tests.faults.sleeper", database_url, path) as sleeper:
        await until_shared(database_url, 4)
        (key, *_), action_id = await keys_of(database_url, sleeper), uuid4()
        await say(sleeper, f"{key} {action_id} own")
        assert await line_of(sleeper) == ["marked"]
        late, effect_id = await line_of(sleeper)
        assert late == "late"
        await changed(database_url, 3)
        sleeper.send_signal(signal.SIGCONT)
        status, words = await end_of(sleeper)
        assert sleeper.stdout is not None
        assert await sleeper.stdout.read() == b"", "it was told no version"
    assert status == 1
    assert "PartitionsChanged: the number of partitions of this database was changed" in words
    assert effect_id not in str(await by_key(database_url))
    await dense(database_url, 3)
    await nobody_is_there(database_url)
    async with Bridge.open(app, database_url=database_url) as bridge:
        assert await bridge.explain(action_id) == []
        asked = await bridge.submit(key, "Counted", {"amount": 1}, action_id=action_id)
        assert (asked.committed().version, asked.duplicate) == (1, False)
