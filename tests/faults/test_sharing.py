"""Several processes on one server: fair shares, takeovers in time, and nothing lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import asyncpg
import pytest

from omninode_bridge import AnotherAppServes, App, Bridge, Transition
from omninode_bridge.core.partition import partition_of
from tests.bridges import app, fetch, until
from tests.faults.proxy import LossyProxy
from tests.programs import PROGRAM

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Awaitable, Callable

    from omninode_bridge import Action, Observation

WAIT_S: Final = 30.0
KEYS: Final = [f"counter:{n}" for n in range(40)]


@asynccontextmanager
async def serving(
    database_url: str,
    *program: str,
    served: str = "tests.bridges:app",
    direct: bool = False,
    options: tuple[str, ...] = (),
) -> AsyncIterator[Process]:
    """Run `run --app`, or another Python program, in a process; yield when it says it is ready."""
    run = ("run", "--app", served, "--database-url", database_url, "--json", *options)
    process = await asyncio.create_subprocess_exec(
        *((sys.executable, *program) if program else (str(PROGRAM), *run)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        | {"ENABLE_PURE_REDUCER": str(not direct).lower()},
    )
    try:
        assert "ready" in " ".join(await line_of(process))
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def say(process: Process, line: str) -> None:
    """Write a line to the standard input of `process`."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    await process.stdin.drain()


async def line_of(process: Process) -> list[str]:
    """Return the words of the next line of its standard output."""
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        return (await process.stdout.readline()).decode().split()


async def keys_of(database_url: str, process: Process) -> list[str]:
    """Return the keys of one partition that `process` owns."""
    rows = await fetch(
        database_url,
        "SELECT partition FROM event_log_partitions WHERE owner_name LIKE '%:' || $1",
        str(process.pid),
    )
    return [key for key in KEYS if partition_of(key, 4) == rows[0]["partition"]]


async def until_commit_waits(database_url: str) -> None:
    """Wait until a commit waits for a lock."""
    deadline = monotonic() + WAIT_S
    while not await fetch(
        database_url,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND query LIKE '%event_log_commit%'",
    ):
        assert monotonic() < deadline
        await asyncio.sleep(0.01)


async def holding_still(database_url: str) -> list[int]:
    """Return the backends that hold a lock in a transaction whose client says nothing."""
    rows = await fetch(
        database_url,
        "SELECT a.pid FROM pg_stat_activity a WHERE a.datname = current_database()"
        " AND a.state = 'idle in transaction' AND EXISTS (SELECT FROM pg_locks l"
        " WHERE l.pid = a.pid AND l.relation = 'event_log_partitions'::regclass"
        " AND l.mode = 'RowShareLock')",
    )
    return [row["pid"] for row in rows]


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


async def longest_gap_s(bridge: Bridge, trouble: Callable[[], Awaitable[None] | None]) -> float:
    """Ask all the time, make `trouble` in the middle; return the longest wait."""
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
    made = trouble()
    if made is not None:
        await made
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
        assert await longest_gap_s(b, other.kill) < 5
        await until_shared(database_url, 4)


async def test_who_stops_properly_is_replaced_within_a_second(database_url: str) -> None:
    async with serving(database_url) as other, Bridge.open(app, database_url=database_url) as b:
        await until_shared(database_url, 2, 2)
        assert await longest_gap_s(b, other.terminate) < 1
        await until_shared(database_url, 4)


async def test_who_stood_still_past_its_lease_makes_nothing_durable_of_then(
    database_url: str,
) -> None:  # R12
    async with serving(database_url) as other, Bridge.open(app, database_url=database_url) as b:
        await until_shared(database_url, 2, 2)
        asyncio.get_running_loop().call_later(5.5, other.send_signal, signal.SIGCONT)
        # All its askers are told, once, by who came after it; `verify` finds each action once.
        assert await longest_gap_s(b, partial(other.send_signal, signal.SIGSTOP)) < 5
        await until_shared(database_url, 2, 2)
        await count_all(b)


async def test_whose_network_is_gone_is_replaced_within_five_seconds(database_url: str) -> None:
    async with (
        LossyProxy(database_url) as proxy,
        serving(proxy.url) as other,
        Bridge.open(app, database_url=database_url) as b,
    ):
        await until_shared(database_url, 2, 2)
        loop = asyncio.get_running_loop()
        loop.call_later(5.5, proxy.speak)
        # What it had sent arrives when others have long followed it.
        assert await longest_gap_s(b, proxy.go_silent) < 5
        await until_shared(database_url, 2, 2)
        await count_all(b)
        assert other.returncode is None


async def test_whose_network_goes_in_its_transaction_is_replaced_within_five_seconds(
    database_url: str,
) -> None:
    async with (
        LossyProxy(database_url) as proxy,
        serving(proxy.url, direct=True),
        Bridge.open(app, database_url=database_url) as b,
    ):
        await until_shared(database_url, 2, 2)
        held: list[int] = []

        async def go_silent() -> None:
            while not held:  # until it is cut off while it holds a partition
                proxy.go_silent()
                began = monotonic()
                await asyncio.sleep(0.05)
                held.extend(await holding_still(database_url))
                if not held:
                    proxy.speak()  # for longer than it was silent: it has to get on
                    await asyncio.sleep(0.2 + monotonic() - began)

        assert await longest_gap_s(b, go_silent) < 5
        await until_shared(database_url, 4)


@pytest.mark.parametrize("path", ["worker", "direct"])
@pytest.mark.parametrize("whose", ["own", "theirs"])
async def test_of_a_batch_that_was_folded_before_it_stood_still_nothing_becomes_durable(
    database_url: str, path: str, whose: str
) -> None:  # R12
    async with (
        serving(database_url, "-m", "tests.faults.sleeper", database_url, path) as sleeper,
        Bridge.open(app, database_url=database_url) as b,
    ):
        await until_shared(database_url, 2, 2)
        # Nobody else touches the key: only the token stands between the late batch and the commit.
        (key, near, *_), action_id = await keys_of(database_url, sleeper), uuid4()
        assert (await b.submit(key, "Counted", {"amount": 1})).committed().version == 1
        await say(sleeper, f"{key} {action_id} {whose}")
        assert await line_of(sleeper) == ["marked"]
        asked = None
        if whose == "theirs":
            payload = {"amount": 1}
            asked = asyncio.create_task(b.submit(key, "Counted", payload, action_id=action_id))
        late, effect_id = await line_of(sleeper)
        assert late == "late"
        began = monotonic()
        meanwhile = [await b.submit(near, "Counted", {"amount": 1}, timeout=20) for _ in range(3)]
        assert [each.committed().version for each in meanwhile] == [1, 2, 3]
        assert monotonic() - began < 5
        await until_shared(database_url, 4)
        sleeper.send_signal(signal.SIGCONT)
        if asked is None:
            assert await line_of(sleeper) == ["told", "2"]
        else:
            assert (await asked).committed().version == 2
        await until_shared(database_url, 2, 2)
        assert (await b.submit(key, "Counted", {"amount": 1})).committed().version == 3
        assert [line["version"] for line in await b.explain(action_id)] == [2]
        rows = await fetch(
            database_url,
            "SELECT body::TEXT FROM event_log_state_committed"
            " UNION ALL SELECT provenance::TEXT FROM workflow_state",
        )
        assert len(rows) == 6 + 2
        assert not [row for row in rows if effect_id in row[0]]
        verification = await b.verify()
        assert (verification.mismatches, verification.actions) == ([], 6)


async def test_a_batch_that_was_sent_before_it_stood_still_is_durable_and_its_askers_hear_so(
    database_url: str,
) -> None:
    async with serving(database_url) as other, Bridge.open(app, database_url=database_url) as b:
        await until_shared(database_url, 2, 2)
        key, *_ = await keys_of(database_url, other)
        partition = partition_of(key, b.partitions)
        connection = await asyncpg.connect(database_url)
        try:
            async with connection.transaction():  # its commit has to wait, sent as it is
                await connection.execute(
                    "SELECT FROM event_log_partitions WHERE partition = $1 FOR UPDATE", partition
                )
                asked = asyncio.create_task(b.submit(key, "Counted", {"amount": 1}))
                await until_commit_waits(database_url)
                other.send_signal(signal.SIGSTOP)
        finally:
            await connection.close()
        assert (await asked).committed().version == 1
        assert (await b.submit(key, "Counted", {"amount": 1}, timeout=20)).committed().version == 2
        other.send_signal(signal.SIGCONT)
        await until_shared(database_url, 2, 2)
        assert (await b.submit(key, "Counted", {"amount": 1})).committed().version == 3
        verification = await b.verify()
        assert (verification.mismatches, verification.actions) == ([], 3)


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
