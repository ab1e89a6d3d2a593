"""The embedded server: it starts by itself, is shared, and stops by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from omninode_bridge.infrastructure.postgres.embedded import (
    EmbeddedServer,
    LockTimeout,
    ServerAddress,
    postgres_binaries,
)
from tests.integration.processes import (
    answer,
    children,
    is_alive,
    parent,
    postmaster,
    server_user,
)
from tests.servers import start_test_server, until_stopped

# The promises, not the measurements, which are six and twenty times better on two cores.
FIRST_START_S_MAX: Final = 3.0
LATER_START_S_MAX: Final = 1.0
IN_FORCE: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "data_checksums": "on",
    "listen_addresses": "",
    "server_encoding": "UTF8",
    "lc_messages": "C",
    "TimeZone": "UTC",
    "jit": "off",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "off",
    "huge_pages": "off",
    "unix_socket_permissions": "0700",
}


async def test_a_server_is_ready_soon(server_folder: Path) -> None:
    first: list[float] = []
    later: list[float] = []
    for turn in ("a", "b", "c"):  # whoever else is busy on this machine is not our concern
        for took in (first, later):
            began = time.monotonic()
            async with EmbeddedServer(server_folder / turn).use() as address:
                took.append(time.monotonic() - began)
                assert await answer(address, "SELECT current_database()") == "omninode_bridge"
            await until_stopped(server_folder / turn)
        if first[-1] < FIRST_START_S_MAX and later[-1] < LATER_START_S_MAX:
            return
    pytest.fail(f"first starts took {first}, later ones {later} seconds")


async def test_the_settings_are_in_force(server_folder: Path) -> None:
    async with start_test_server(server_folder / "data") as server:
        connection = await asyncpg.connect(**server.address.connect_arguments)
        found = {name: await connection.fetchval(f"SHOW {name}") for name in IN_FORCE}
        collation = await connection.fetchval("SELECT datcollate FROM pg_database LIMIT 1")
        await connection.close()
    assert found == IN_FORCE
    assert collation == "C"


async def test_settings_can_be_added_for_the_next_start(server_folder: Path) -> None:
    extra = {"application_name": "it's a \\ test"}
    async with start_test_server(server_folder / "data", extra_settings=extra) as server:
        assert (
            await answer(
                server.address, "SELECT reset_val FROM pg_settings WHERE name = 'application_name'"
            )
            == "it's a \\ test"
        )


async def test_what_was_committed_is_there_after_a_stop(server_folder: Path) -> None:
    for statement in (
        "CREATE TABLE kept (number int)",
        "INSERT INTO kept VALUES (17)",
    ):
        async with start_test_server(server_folder / "data") as server:
            await answer(server.address, statement)
    async with start_test_server(server_folder / "data") as server:
        assert await answer(server.address, "SELECT number FROM kept") == 17


async def test_the_address_serves_asyncpg_as_a_url_and_the_programs(server_folder: Path) -> None:
    async with start_test_server(server_folder / "data") as server:
        connection = await asyncpg.connect(server.address.url)
        assert await connection.fetchval("SELECT current_user") == "omninode_bridge"
        await connection.close()
        psql = postgres_binaries().psql
        assert psql is not None
        process = await asyncio.create_subprocess_exec(
            *(str(psql), *server.address.program_arguments, "--tuples-only", "--command=SELECT 1"),
            stdout=subprocess.PIPE,
        )
        assert (await process.communicate())[0].strip() == b"1"


async def test_the_server_stops_after_its_last_user(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    server = EmbeddedServer(data_dir)
    async with server.use() as address:
        async with server.use() as same:
            assert same == address
        pid = postmaster(data_dir)
        assert is_alive(pid)
    await until_stopped(data_dir)
    assert not is_alive(pid)
    assert not (address.socket_folder / ".s.PGSQL.5432").exists()


async def test_a_user_that_is_killed_counts_as_gone(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with server_user(data_dir) as user:
        assert (await user.says()).startswith("in ")
        pid = postmaster(data_dir)
        user.process.kill()
        await user.process.wait()
    await until_stopped(data_dir)
    assert not is_alive(pid)


async def test_users_that_come_at_once_share_one_server(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with AsyncExitStack() as stack:
        users = [await stack.enter_async_context(server_user(data_dir)) for _ in range(5)]
        said = {await user.says() for user in users}
        assert len(said) == 1
        assert said.pop().startswith("in ")
        keeper = parent(postmaster(data_dir))
        assert children(keeper) == [postmaster(data_dir)]
        for user in users[:-1]:
            await user.leaves()
        assert is_alive(postmaster(data_dir))
        await users[-1].leaves()
    await until_stopped(data_dir)


async def test_users_that_come_and_go_always_find_a_server(server_folder: Path) -> None:
    server = EmbeddedServer(server_folder / "data")

    async def come_and_go(number: int) -> None:
        for turn in range(6):
            async with server.use() as address:
                assert await answer(address, "SELECT 1") == 1
            # From joining a running server, through one that is stopping, to starting one.
            await asyncio.sleep(0.03 * ((number + turn) % 5))

    await asyncio.gather(*(come_and_go(number) for number in range(3)))
    await until_stopped(server_folder / "data")


async def test_control_c_at_a_user_does_not_reach_the_server(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with server_user(data_dir) as starter, server_user(data_dir) as other:
        assert (await starter.says()).startswith("in ")
        assert (await other.says()).startswith("in ")
        os.killpg(starter.process.pid, signal.SIGINT)
        await starter.process.wait()
        async with EmbeddedServer(data_dir).use() as address:
            assert await answer(address, "SELECT 1") == 1
    await until_stopped(data_dir)


async def test_the_output_of_the_user_that_started_the_server_ends_with_it(
    server_folder: Path,
) -> None:
    data_dir = server_folder / "data"
    async with server_user(data_dir) as starter:
        assert (await starter.says()).startswith("in ")
        async with EmbeddedServer(data_dir).use():
            await starter.leaves()
            assert await starter.says() == ""
    await until_stopped(data_dir)


async def test_starting_leaves_no_descriptor_and_no_child_behind(server_folder: Path) -> None:
    server = EmbeddedServer(server_folder / "data")
    before, ours = open_descriptors(), children(os.getpid())
    async with server.use():
        assert len(open_descriptors() - before) == 1
        assert children(os.getpid()) == ours
    assert open_descriptors() <= before
    await until_stopped(server_folder / "data")


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.45, 0.5])
async def test_a_start_that_is_cancelled_leaves_nothing_behind(
    server_folder: Path, after_s: float
) -> None:
    data_dir = server_folder / "data"
    server = EmbeddedServer(data_dir)
    before, ours = open_descriptors(), children(os.getpid())

    async def use() -> None:
        async with server.use():
            await asyncio.sleep(60)

    task = asyncio.create_task(use())
    await asyncio.sleep(after_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_descriptors() <= before
    assert children(os.getpid()) == ours
    assert list((data_dir / "postgres").glob("unfinished-*")) == []
    async with server.use() as address:
        assert await answer(address, "SELECT 1") == 1
        left = {path.name for path in (data_dir / "postgres").iterdir()}
    assert left == {"data", "server.lock", "server.log", ".s.PGSQL.5432", ".s.PGSQL.5432.lock"}
    await until_stopped(data_dir)


async def test_a_second_writer_waits_and_is_told_for_whom(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with server_user(data_dir, mode="write") as first:
        assert (await first.says()).startswith("in ")
        async with server_user(data_dir, mode="write") as second:
            assert await second.says() == f"waiting for {first.process.pid}"
            first.process.kill()
            assert (await second.says()).startswith("in ")
            assert EmbeddedServer(data_dir).writer() == second.process.pid


async def test_a_writer_gives_up_waiting_in_the_end(server_folder: Path) -> None:
    server = EmbeddedServer(server_folder / "data")
    told = []
    async with server.writing():
        with pytest.raises(LockTimeout) as caught:
            async with server.writing(lambda: told.append("waiting"), wait_s=0.2):
                pass
    assert told == ["waiting"]
    assert caught.value.holder == os.getpid()
    async with server.writing(lambda: told.append("again")):
        assert told == ["waiting"]


async def test_readers_do_not_wait_for_the_writer(server_folder: Path) -> None:
    server = EmbeddedServer(server_folder / "data")
    async with server.writing(), server.use() as address:
        assert isinstance(address, ServerAddress)
    await until_stopped(server_folder / "data")


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}
