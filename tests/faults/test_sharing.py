"""Several processes on one server: fair shares, takeovers in time, and nothing lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import orjson

from omninode_bridge import AnotherAppServes, App, Bridge, Transition
from tests.bridges import app, fetch, until
from tests.programs import PROGRAM

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from omninode_bridge import Action, Observation

WAIT_S: Final = 30.0
KEYS: Final = [f"counter:{n}" for n in range(40)]


@asynccontextmanager
async def serving(database_url: str) -> AsyncIterator[Process]:
    """Run `run --app` in a process of its own; yield when it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "run", "--app", "tests.bridges:app", "--database-url", database_url, "--json"),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = orjson.loads(await process.stdout.readline())
        assert line["ready"] == app.name
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def shares(database_url: str) -> list[int]:
    """Return how many partitions each process has that has any, the fewest first."""
    rows = await fetch(
        database_url,
        "SELECT count(*) AS held FROM event_log_partitions"
        " WHERE lease_until >= clock_timestamp() GROUP BY owner_name",
    )
    return sorted(row["held"] for row in rows)


async def until_shared(database_url: str, *wanted: int) -> None:
    """Wait until the processes have these numbers of partitions."""
    deadline = monotonic() + WAIT_S
    while (held := await shares(database_url)) != list(wanted):
        assert monotonic() < deadline, held
        await asyncio.sleep(0.05)


async def count_all(bridge: Bridge) -> None:
    """Ask each key once; all have to be told."""
    await asyncio.gather(*(bridge.submit(key, "Counted", {"amount": 1}) for key in KEYS))


async def longest_gap_s(bridge: Bridge, trouble: Process, number: signal.Signals) -> float:
    """Ask all the time, send `trouble` the signal in the middle; return the longest wait."""
    waits: list[float] = []

    async def ask(key: str) -> None:
        while len(waits) < 10_000 and monotonic() < end:
            began = monotonic()
            outcome = await bridge.submit(key, "Counted", {"amount": 1}, timeout=20)
            assert not outcome.committed().duplicate
            waits.append(monotonic() - began)
            await asyncio.sleep(0.02)

    end = monotonic() + 7
    asking = [asyncio.create_task(ask(key)) for key in KEYS]
    await asyncio.sleep(0.5)
    trouble.send_signal(number)
    await asyncio.gather(*asking)
    verification = await bridge.verify()
    assert (verification.mismatches, verification.actions) == ([], len(waits))
    return max(waits)


async def test_four_partitions_are_shared_fairly_among_one_two_and_three(
    database_url: str,
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(database_url))
        await until_shared(database_url, 4)
        await stack.enter_async_context(serving(database_url))
        await until_shared(database_url, 2, 2)
        await stack.enter_async_context(serving(database_url))
        await until_shared(database_url, 1, 1, 2)
        first.terminate()
        await until_shared(database_url, 2, 2)


async def test_who_is_killed_is_replaced_within_five_seconds(database_url: str) -> None:
    async with serving(database_url) as other, Bridge.open(app, database_url=database_url) as b:
        await until_shared(database_url, 2, 2)
        assert await longest_gap_s(b, other, signal.SIGKILL) < 5
        await until_shared(database_url, 4)


async def test_who_stops_properly_is_replaced_within_a_second(database_url: str) -> None:
    async with serving(database_url) as other, Bridge.open(app, database_url=database_url) as b:
        await until_shared(database_url, 2, 2)
        assert await longest_gap_s(b, other, signal.SIGTERM) < 1
        await until_shared(database_url, 4)


async def test_who_stood_still_past_its_lease_makes_nothing_durable_of_then(
    database_url: str,
) -> None:  # R12
    async with serving(database_url) as other, Bridge.open(app, database_url=database_url) as b:
        await until_shared(database_url, 2, 2)
        asyncio.get_running_loop().call_later(5.5, other.send_signal, signal.SIGCONT)
        # All its askers are told, once, by who came after it; `verify` finds each action once.
        assert await longest_gap_s(b, other, signal.SIGSTOP) < 5
        await until_shared(database_url, 2, 2)
        await count_all(b)


async def test_who_comes_with_another_app_waits_and_nothing_is_given_up(database_url: str) -> None:
    others = App("others")

    @others.reducer("other")
    def _other(state: dict[str, object], _action: Action) -> Transition:
        return Transition(state)

    seen: list[Observation] = []

    async def come() -> None:
        async with Bridge.open(others, database_url=database_url, observe=seen.append) as late:
            outcome = await late.submit("other:1", "Done", {}, action_id=uuid4())
            assert outcome.committed().version == 1

    async with Bridge.open(app, database_url=database_url) as first:
        coming = asyncio.create_task(come())
        await until(lambda: any(isinstance(o, AnotherAppServes) for o in seen), "it to say so")
        await count_all(first)
        assert not coming.done()
    async with asyncio.timeout(WAIT_S):
        await coming
