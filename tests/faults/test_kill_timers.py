"""`kill -9` at random moments while timers fire: each fires, and once (R3, R4, R10)."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from omninode_bridge import Bridge
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from tests.bridges import app
from tests.servers import until_stopped

if TYPE_CHECKING:
    from pathlib import Path

KEYS: Final = 12
TIMERS: Final = 600
FIRST_DUE_S: Final = 1.0
DUE_FOR_S: Final = 5.0
LINE_WAIT_S: Final = 60.0
FIRED: Final = "SELECT action_id FROM event_log_action WHERE workflow_key <> 'counter:sum'"


async def set_timers(data_dir: Path) -> tuple[dict[UUID, str], datetime]:
    """Set timers that become due one after another; return their keys by id, and the last time."""
    asked = {uuid4(): f"counter:{n % KEYS}" for n in range(TIMERS)}
    payload = {"amount": 1, "passes_on_to": ["counter:sum"]}
    async with Bridge.open(app, data_dir=data_dir) as bridge:
        first = datetime.now(UTC) + timedelta(seconds=FIRST_DUE_S)
        await asyncio.gather(
            *(
                bridge.enqueue(
                    *(key, "Counted", payload),
                    action_id=action_id,
                    due_at=first + timedelta(seconds=DUE_FOR_S * n / TIMERS),
                )
                for n, (action_id, key) in enumerate(asked.items())
            )
        )
    return asked, first + timedelta(seconds=DUE_FOR_S)


async def fire_and_kill(data_dir: Path) -> int:
    """Run a process until some time after it has fired; return how many it said it fired."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.timers", str(data_dir)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    fired = 0
    try:
        async with asyncio.timeout(LINE_WAIT_S):
            while not fired:
                line = await process.stdout.readline()
                assert line, "the process ended by itself"
                fired += _fired(line)
    finally:
        # Some hundredths of a second: it fires every few milliseconds, so that is anywhere.
        delay_s = random.uniform(0, 0.15)  # noqa: S311 - no secret
        kill = asyncio.get_running_loop().call_later(delay_s, process.send_signal, signal.SIGKILL)
        while line := await process.stdout.readline():
            fired += _fired(line)
        kill.cancel()
        await process.wait()
    return fired


def _fired(line: bytes) -> int:
    match line.split():
        case [b"fired", number] if line.endswith(b"\n"):
            return int(number)
        case _:
            return 0


@pytest.mark.timeout(180)
async def test_each_timer_fires_once_however_often_its_process_is_killed(
    server_folder: Path,
) -> None:
    data_dir = server_folder / "data"
    async with AsyncExitStack() as held:
        # Who dies leaves a server that runs on: the lives are short, and most of them fire.
        address = await held.enter_async_context(EmbeddedServer(data_dir).use())
        asked, last = await set_timers(data_dir)
        said, lives = 0, 0
        while datetime.now(UTC) < last - timedelta(seconds=1):  # there are some left to fire
            said += await fire_and_kill(data_dir)
            lives += 1
        assert lives >= 3, "hardly anybody was killed: no test"
        assert 0 < said < TIMERS, "all fired in the lives of the killed, or none: no test"
        async with Bridge.open(app, data_dir=data_dir) as bridge:
            async with asyncio.timeout(LINE_WAIT_S):
                while await count(bridge, "counter:sum") < TIMERS:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.02)
            await bridge.settled()
            seen: Counter[UUID] = Counter()
            for number in range(KEYS):
                page = await bridge.history(f"counter:{number}")
                seen.update(UUID(line["action"]["action_id"]) for line in page)
            assert seen == Counter(asked.keys())
            connection = await asyncpg.connect(**address.connect_arguments)
            fired = await connection.fetch(FIRED)
            await connection.close()
            assert Counter(UUID(bytes=row["action_id"].bytes) for row in fired) == seen
            assert await count(bridge, "counter:sum") == TIMERS, "what follows from one, once"
            verification = await bridge.verify()
            assert verification.mismatches == []
            assert verification.actions == 2 * TIMERS
    await until_stopped(data_dir)


async def count(bridge: Bridge, key: str) -> int:
    """Return what a counter has come to."""
    row = await bridge.state(key)
    return 0 if row is None else int(row.state["count"])
