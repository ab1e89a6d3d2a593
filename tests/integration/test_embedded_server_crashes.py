"""The embedded server after violence: killed keepers, killed servers, and what they leave."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from time import monotonic, sleep
from typing import TYPE_CHECKING

import asyncpg
import pytest

from omninode_bridge.infrastructure.postgres.embedded import (
    EmbeddedServer,
    ServerStartFailed,
    keeper,
)
from tests.integration.processes import (
    WAIT_S,
    answer,
    children,
    is_alive,
    kill,
    parent,
    postmaster,
    server_user,
    until,
)
from tests.servers import until_stopped

if TYPE_CHECKING:
    from pathlib import Path

    from omninode_bridge.infrastructure.postgres.embedded import ServerAddress


async def test_a_server_whose_keeper_was_killed_is_adopted(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    server = EmbeddedServer(data_dir)
    async with server.use() as address:
        pid = postmaster(data_dir)
        kill(parent(pid))
        await until(lambda: parent(pid) == 1)
        async with server.use() as same:
            assert same == address
            assert postmaster(data_dir) == pid
    await until_stopped(data_dir)
    assert not is_alive(pid)


async def test_a_server_left_alone_by_all_is_adopted_too(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir).use():
        pid = postmaster(data_dir)
        kill(parent(pid))
    await until(lambda: parent(pid) == 1)
    async with EmbeddedServer(data_dir).use() as address:
        assert postmaster(data_dir) == pid
        assert await answer(address, "SELECT 1") == 1
    await until_stopped(data_dir)
    assert not is_alive(pid)


async def test_a_server_that_is_killed_under_its_users_comes_back(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir).use() as address:
        await answer(address, "CREATE TABLE kept AS SELECT 17 AS number")
        pid = postmaster(data_dir)
        its_keeper = parent(pid)
        kill(pid)
        await until(lambda: not is_alive(pid))
        async with EmbeddedServer(data_dir).use():
            assert parent(postmaster(data_dir)) == its_keeper
            assert await answer(address, "SELECT number FROM kept") == 17
    await until_stopped(data_dir)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
async def test_a_server_that_is_stopped_under_its_users_is_started_again(
    server_folder: Path, how: signal.Signals
) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir).use() as address:
        await answer(address, "CREATE TABLE kept AS SELECT 17 AS number")
        # A connection that is never given up: a smart shutdown (SIGTERM) alone would wait for it.
        connection = await asyncpg.connect(**address.connect_arguments)
        pid = postmaster(data_dir)
        os.kill(pid, how)
        await until(lambda: not is_alive(pid))
        connection.terminate()
        assert await answer_once_back(address, "SELECT number FROM kept") == 17
        pid = postmaster(data_dir)
        async with EmbeddedServer(data_dir).use() as same:
            assert same == address
    await until_stopped(data_dir)
    assert not is_alive(pid)


async def test_a_server_that_is_stopped_again_and_again_comes_back_each_time(
    server_folder: Path,
) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir).use() as address:
        for _ in range(6):
            os.kill(postmaster(data_dir), signal.SIGINT)
            await until(lambda: not (data_dir / "postgres" / "data" / "postmaster.pid").exists())
            assert await answer_once_back(address, "SELECT 1") == 1
    await until_stopped(data_dir)


async def test_a_keeper_leaves_with_the_last_user_of_a_server_that_cannot_start(
    server_folder: Path,
) -> None:
    data_dir = server_folder / "data"
    log = data_dir / "postgres" / "server.log"
    async with EmbeddedServer(data_dir).use():
        with (data_dir / "postgresql.conf").open("a") as settings:
            settings.write("max_connections = many\n")
        os.kill(postmaster(data_dir), signal.SIGINT)
        await until(lambda: log.read_text().count("while it is used") >= 3)
    await until_stopped(data_dir)


async def test_a_server_killed_with_all_its_processes_recovers(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir).use() as address:
        await answer(address, "CREATE TABLE kept AS SELECT 17 AS number")
        kill_all(data_dir)
    assert (data_dir / "postgres" / ".s.PGSQL.5432").exists()
    async with EmbeddedServer(data_dir).use() as address:
        assert await answer(address, "SELECT number FROM kept") == 17
    await until_stopped(data_dir)


async def test_a_process_with_the_id_of_the_dead_server_is_no_obstacle(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir).use():
        owner = (data_dir / "postgres").stat()
        kill_all(data_dir)
    # As it is after a reboot: an innocent process of the same account has the id by now.
    innocent = await asyncio.create_subprocess_exec(
        *("/bin/sleep", "60"), user=owner.st_uid, group=owner.st_gid, extra_groups=[]
    )
    try:
        for name in ("data/postmaster.pid", ".s.PGSQL.5432.lock"):
            path = data_dir / "postgres" / name
            _, _, rest = path.read_text().partition("\n")
            path.write_text(f"{innocent.pid}\n{rest}")
        async with EmbeddedServer(data_dir).use() as address:
            assert await answer(address, "SELECT 1") == 1
        await until_stopped(data_dir)
        assert is_alive(innocent.pid)
    finally:
        innocent.kill()
        await innocent.wait()


@pytest.mark.parametrize("content", ["", "123"])
async def test_a_lock_file_cut_off_by_a_power_failure_is_no_obstacle(
    server_folder: Path, content: str
) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir).use():
        kill_all(data_dir)
    for name in ("data/postmaster.pid", ".s.PGSQL.5432.lock"):
        (data_dir / "postgres" / name).write_text(content)
    async with EmbeddedServer(data_dir).use() as address:
        assert await answer(address, "SELECT 1") == 1
    await until_stopped(data_dir)


async def test_no_server_starts_while_a_process_of_the_last_one_is_at_work(
    server_folder: Path,
) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir).use() as address:
        connection = await asyncpg.connect(**address.connect_arguments)
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        os.kill(backend, signal.SIGSTOP)  # Busy: it does not notice that the server is gone.
        first = postmaster(data_dir)
        kill(parent(first), first)
        await until(lambda: not is_alive(first))
        connection.terminate()
    starting = asyncio.create_task(answer_of_server(data_dir))
    await asyncio.sleep(1.0)
    assert not starting.done()
    kill(backend)
    assert await starting == 1
    await until_stopped(data_dir)


async def test_initdb_that_is_killed_half_way_is_done_again(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with server_user(data_dir) as user:
        await until(lambda: any((data_dir / "postgres").glob("unfinished-*/base")))
        kill(user.process.pid)
    assert not (data_dir / "postgres" / "data").exists()
    async with EmbeddedServer(data_dir).use() as address:
        assert await answer(address, "SELECT 1") == 1
    await until_stopped(data_dir)
    async with EmbeddedServer(data_dir).use():
        pass
    await until_stopped(data_dir)
    assert not list((data_dir / "postgres").glob("unfinished-*"))


async def test_a_folder_deleted_while_its_server_stops_can_be_used_again_at_once(
    server_folder: Path,
) -> None:
    data_dir = server_folder / "data"
    pids = []
    for _ in range(3):
        async with EmbeddedServer(data_dir).use() as address:
            pids.append(postmaster(data_dir))
            assert await answer(address, "SELECT 1") == 1
        shutil.rmtree(data_dir, ignore_errors=True)
        shutil.rmtree(data_dir, ignore_errors=True)
    async with EmbeddedServer(data_dir).use() as address:
        await until(lambda: not any(is_alive(pid) for pid in pids))
        assert await answer(address, "SELECT 1") == 1
    await until_stopped(data_dir)


async def test_a_failed_start_shows_what_the_server_said(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    server = EmbeddedServer(data_dir, extra_settings={"max_connections": "many"})
    with pytest.raises(ServerStartFailed, match='"max_connections"') as caught:
        async with server.use():
            pass
    assert "exit code 1" in caught.value.detail
    await until_stopped(data_dir)
    async with EmbeddedServer(data_dir).use() as address:
        assert await answer(address, "SELECT 1") == 1
    await until_stopped(data_dir)


async def test_a_keeper_that_is_told_to_end_stops_the_server_and_the_next_user_starts_it(
    server_folder: Path,
) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir).use():
        pid = postmaster(data_dir)
        os.kill(parent(pid), signal.SIGTERM)
        await until(lambda: not is_alive(pid))
        async with EmbeddedServer(data_dir).use() as address:
            assert postmaster(data_dir) != pid
            assert await answer(address, "SELECT 1") == 1
    await until_stopped(data_dir)


async def test_a_second_keeper_leaves_at_once(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir).use():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(keeper.__file__)),
            *(str(data_dir), "/nowhere", "0", "0", "no program"),
            stdout=subprocess.PIPE,
        )
        assert (await process.communicate())[0] == b"busy"
    await until_stopped(data_dir)


async def answer_of_server(data_dir: Path) -> object:
    async with EmbeddedServer(data_dir).use() as address:
        return await answer(address, "SELECT 1")


async def answer_once_back(address: ServerAddress, statement: str) -> object:
    """Return what the server answers, as soon as there is one again."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await answer(address, statement)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.05)


def kill_all(data_dir: Path) -> None:
    """Kill keeper, server and all its processes, the keeper first: it would start another.

    Returns when they are gone: a server that is just dying may still accept a connection.
    """
    pid = postmaster(data_dir)
    them = (parent(pid), pid, *children(pid))
    kill(*them)
    deadline = monotonic() + WAIT_S
    while any(map(is_alive, them)):
        assert monotonic() < deadline, them
        sleep(0.01)
