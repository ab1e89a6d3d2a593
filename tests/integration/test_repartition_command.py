"""`repartition` as a person runs it, and kills it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from omninode_bridge import Bridge
from omninode_bridge.app.repartitioning import repartition
from tests.bridges import app as counting
from tests.integration.everything import Fragile, by_key, everything, fill, misplaced
from tests.integration.repartitioning import counted, dense, value
from tests.programs import PROGRAM, Program, run
from tests.servers import make_server_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.programs import Done

__all__ = ["counted"]

SUMMARY: Final = {
    *("partitions_before", "partitions", "obstacles", "keys", "entries", "effects", "timers"),
    "seconds",
}


def of_server(database_url: str, *arguments: str) -> Done:
    return run(PROGRAM, "repartition", *arguments, "--database-url", database_url)


async def test_a_summary_tells_what_was_moved(counted: str) -> None:
    done = await asyncio.to_thread(of_server, counted, "--partitions", "3", "--json")
    assert done.status == 0, done.words
    summary = done.object()
    assert summary.keys() == SUMMARY
    assert {name: summary[name] for name in SUMMARY - {"seconds"}} == {
        "partitions_before": 2,
        "partitions": 3,
        "obstacles": [],
        "keys": 21,
        "entries": 40,
        "effects": 0,
        "timers": 0,
    }
    assert "moving 40 commits" in done.words
    again = await asyncio.to_thread(of_server, counted, "--partitions", "3", "--json")
    assert again.status == 0
    assert again.object() | {"seconds": 0} == {
        "partitions_before": 3,
        "partitions": 3,
        "obstacles": [],
        "keys": 0,
        "entries": 0,
        "effects": 0,
        "timers": 0,
        "seconds": 0,
    }
    table = await asyncio.to_thread(of_server, counted, "--partitions", "2")
    assert table.status == 0
    assert "partitions_before" in table.out.decode()


async def test_a_running_bridge_makes_it_refuse_and_say_so(counted: str) -> None:
    async with Bridge.open(counting, database_url=counted):
        done = await asyncio.to_thread(of_server, counted, "--partitions", "3", "--json")
    assert done.status == 1
    (obstacle,) = done.object()["obstacles"]
    assert obstacle.startswith("counting@")
    assert obstacle in done.words
    assert "there are still 2 partitions: nothing was changed" in done.words
    assert done.object()["partitions"] == 2


@pytest.mark.parametrize("number", ["0", "-3", "257", "1025", "many"])
async def test_an_impossible_number_is_wrong_use(counted: str, number: str) -> None:
    done = await asyncio.to_thread(of_server, counted, f"--partitions={number}")
    assert (done.status, done.out) == (2, b"")


@pytest.fixture
def program() -> Iterator[Program]:
    """Yield the program on an embedded database of 4 partitions."""
    with make_server_folder() as folder:
        program = Program(folder / "data")
        (folder / "files").mkdir()
        for n in range(5):
            (folder / "files" / f"{n}.txt").write_text(str(n))
        program.run("stamp", folder / "files", "--namespace", "here")
        yield program


def test_an_embedded_database_too(program: Program) -> None:
    listed = program.json("list").objects()
    assert program.json("repartition", "--partitions", "6").object()["partitions"] == 6
    assert program.json("list").objects() == listed
    assert program.json("verify").object()["mismatches"] == []
    files = program.data_dir.parent / "files"
    (files / "6.txt").write_text("6")
    stamped = program.json("stamp", files, "--namespace", "here").object()
    assert (stamped["unchanged"], stamped["new"]) == (5, 1)
    assert program.json("verify").object()["mismatches"] == []


async def test_who_writes_to_the_data_folder_is_in_the_way_at_once(program: Program) -> None:
    async with Bridge.open(counting, data_dir=program.data_dir):
        done = await asyncio.to_thread(
            run, *program.command("repartition", "--partitions", "6", "--json")
        )
    assert done.status == 1
    assert f"process {os.getpid()} is writing to {program.data_dir}" in done.words
    assert done.object()["partitions"] == 4


async def test_leases_of_a_killed_writer_of_the_data_folder_are_not_waited_for(
    program: Program,
) -> None:
    async with Bridge.open(counting, data_dir=program.data_dir, writing=False) as bridge:
        await bridge._database.execute(
            "UPDATE event_log_partitions SET owner = gen_random_uuid(), owner_name = 'dead',"
            " lease_until = now() + INTERVAL '1 hour'"
        )
    done = await asyncio.to_thread(program.json, "repartition", "--partitions", "2")
    assert done.object()["partitions"] == 2


def test_a_folder_without_a_database_is_a_slip_of_the_pen(tmp_path: Path) -> None:
    done = Program(tmp_path / "none").run("repartition", "--partitions", "2", status=2)
    assert "there is no database" in done.words


# -- killed in the middle --------------------------------------------------------------------------


@pytest.fixture
async def held(database_url: str, tmp_path: Path) -> AsyncIterator[dict[tuple[str, str], Any]]:
    """Yield all that a database of 2 partitions holds, by key."""
    fragile = Fragile()
    app = everything(fragile, None)
    await fill(database_url, 2, tmp_path / "gateway", fragile)
    yield await by_key(database_url)
    async with Bridge.open(app, database_url=database_url, writing=False) as bridge:
        assert (await bridge.verify()).mismatches == []


async def started(database_url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), "repartition", "--partitions", "5"),
        *("--database-url", database_url),
        stderr=asyncio.subprocess.PIPE,
    )


async def killed(process: asyncio.subprocess.Process, database_url: str) -> None:
    """Kill it, and return when its session has ended."""
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()
    theirs = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'omninode-bridge'"
    theirs += " AND datname = current_database()"
    async with asyncio.timeout(20):
        while await value(database_url, theirs):  # noqa: ASYNC110 - the server ends it by itself
            await asyncio.sleep(0.02)


async def told(process: asyncio.subprocess.Process, words: bytes) -> None:
    """Return when it has said so."""
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while words not in (line := await process.stderr.readline()):
            assert line, f"it ended before {words!r}"


async def test_killed_with_all_but_the_outcomes_moved_it_is_the_old_database(
    database_url: str, held: dict[tuple[str, str], Any]
) -> None:  # R2
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("SELECT FROM action_dedup_log FOR UPDATE")  # where it has to wait
        process = await started(database_url)
        await told(process, b"moving remembered outcomes")
        process.send_signal(signal.SIGKILL)
        await process.wait()
    await connection.close()
    await killed(process, database_url)
    assert await value(database_url, "SELECT partitions FROM event_log_database") == 2
    assert await by_key(database_url) == held
    await dense(database_url, 2)


@pytest.mark.parametrize(
    "step", [b"keys", b"commits", b"give-ups", b"intents", b"timers", b"statistics"]
)
async def test_killed_at_any_step_it_is_the_old_database_or_the_new_one(
    database_url: str, held: dict[tuple[str, str], Any], step: bytes
) -> None:  # R2
    outcomes = "SELECT jsonb_agg(outcome ORDER BY action_id)::TEXT FROM action_dedup_log"
    before = await value(database_url, outcomes)
    process = await started(database_url)
    await told(process, step)
    await killed(process, database_url)
    number = await value(database_url, "SELECT partitions FROM event_log_database")
    assert number in (2, 5)
    assert (await value(database_url, outcomes) == before) is (number == 2)
    assert await by_key(database_url) == held
    assert await misplaced(database_url, number) == []
    await dense(database_url, number)
    # And it can be asked again.
    assert (await repartition(5, database_url=database_url)).partitions == 5
    assert await by_key(database_url) == held
    await dense(database_url, 5)
