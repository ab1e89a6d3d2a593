"""The embedded server's data folder: any path, one owner, nobody else's business."""

from __future__ import annotations

import asyncio
import os
import pwd
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import pytest

from omninode_bridge.infrastructure.postgres.embedded import (
    BinariesMissing,
    DataFolderRefused,
    EmbeddedServer,
    ServerAccountLockedOut,
    WrongPostgresVersion,
    postgres_binaries,
)
from tests.integration.processes import answer, is_alive, owner_of, postmaster, server_user
from tests.servers import until_stopped

if TYPE_CHECKING:
    from omninode_bridge.infrastructure.postgres.embedded import ServerAddress

OTHER_POSTGRES: Final = Path("/usr/lib/postgresql/15/bin")
WITHOUT_ENTRY: Final = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def serves(data_dir: Path) -> ServerAddress:
    """Use the server of a data folder, see that it answers, and wait until it has stopped."""
    async with EmbeddedServer(data_dir).use() as address:
        assert await answer(address, "SELECT 1") == 1
        connection = await asyncpg.connect(address.url)
        await connection.close()
    await until_stopped(data_dir)
    return address


def deep(folder: Path) -> Path:
    """Return a path below `folder` that is too long for a socket."""
    return folder / ("d" * 60) / ("e" * 60)


@pytest.mark.parametrize(
    "name",
    [
        "with spaces",
        "Zustände und 状態",
        "it's",
        'say "so"',
        "one,two",
        "100%",
        "$HOME",
        "back\\slash",
        "-dash",
        "new\nline",
    ],
)
async def test_a_folder_may_have_any_name(server_folder: Path, name: str) -> None:
    for _ in range(2):
        await serves(server_folder / name)


async def test_a_relative_folder_is_found_again_from_elsewhere(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(server_folder)
    async with EmbeddedServer(Path("data")).use() as address:
        monkeypatch.chdir("/")
        async with EmbeddedServer(server_folder / "data").use() as same:
            assert same == address
    await until_stopped(server_folder / "data")


async def test_a_folder_too_deep_for_a_socket_has_it_in_a_short_private_one(
    server_folder: Path,
) -> None:
    data_dir = deep(server_folder)
    async with EmbeddedServer(data_dir).use() as address, EmbeddedServer(data_dir).use() as same:
        assert address == same
        short = address.socket_folder
        assert data_dir not in short.parents
        assert mode_of(short) == 0o700
        assert short.stat().st_uid == (data_dir / "postgres").stat().st_uid
        assert await answer(address, "SELECT 1") == 1
    await until_stopped(data_dir)
    assert not short.exists()


async def test_a_short_folder_that_somebody_put_there_is_not_used(server_folder: Path) -> None:
    data_dir = deep(server_folder)
    short = (await serves(data_dir)).socket_folder
    elsewhere = server_folder / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    short.symlink_to(elsewhere)
    try:
        assert (await serves(data_dir)).socket_folder != short
        assert list(elsewhere.iterdir()) == []
    finally:
        short.unlink()


async def test_a_short_folder_that_others_may_enter_is_not_used(server_folder: Path) -> None:
    data_dir = deep(server_folder)
    short = (await serves(data_dir)).socket_folder
    short.mkdir()
    short.chmod(0o755)
    try:
        assert (await serves(data_dir)).socket_folder != short
    finally:
        short.rmdir()


async def test_a_copy_of_a_folder_has_a_server_of_its_own(server_folder: Path) -> None:
    data_dir, copy = deep(server_folder), deep(server_folder / "copy")
    await serves(data_dir)
    copy.parent.mkdir(parents=True)
    for above in (copy.parent, copy.parent.parent):
        above.chmod(0o711)
    copying = await asyncio.create_subprocess_exec("/bin/cp", "-a", data_dir, copy)
    assert await copying.wait() == 0
    async with EmbeddedServer(data_dir).use() as one, EmbeddedServer(copy).use() as other:
        assert one.socket_folder != other.socket_folder
        await answer(one, "CREATE TABLE only_here (number int)")
        assert await answer(other, "SELECT to_regclass('only_here')") is None
    await until_stopped(data_dir)
    await until_stopped(copy)


async def test_nobody_else_may_enter_the_folder(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    data_dir.mkdir()
    data_dir.chmod(0o777)
    await serves(data_dir)
    assert mode_of(data_dir) & 0o007 == 0
    assert mode_of(data_dir / "postgres") == 0o700
    assert mode_of(data_dir / "postgres" / "data") == 0o700
    assert all(mode_of(path) & 0o007 == 0 for path in data_dir.iterdir())


async def test_a_folder_that_holds_something_else_is_refused_and_left_alone(
    server_folder: Path,
) -> None:
    data_dir = server_folder / "data"
    data_dir.mkdir()
    (data_dir / "thesis.txt").write_text("three years of work")
    before = data_dir.stat()
    with pytest.raises(DataFolderRefused, match=r"thesis\.txt"):
        await serves(data_dir)
    assert [path.name for path in data_dir.iterdir()] == ["thesis.txt"]
    assert data_dir.stat() == before


async def test_a_file_is_no_data_folder(server_folder: Path) -> None:
    (server_folder / "data").write_text("")
    with pytest.raises(DataFolderRefused, match="File exists"):
        await serves(server_folder / "data")


async def test_a_folder_of_a_later_layout_is_refused(server_folder: Path) -> None:
    await serves(server_folder / "data")
    (server_folder / "data" / "omninode_bridge.txt").write_text("layout 2\n")
    with pytest.raises(DataFolderRefused, match="layout 2"):
        await serves(server_folder / "data")


async def test_a_database_of_another_major_version_is_refused_by_name(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    await serves(data_dir)
    (data_dir / "postgres" / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(WrongPostgresVersion, match=r"PostgreSQL 17.* version 18") as caught:
        await serves(data_dir)
    assert (caught.value.found, caught.value.wanted) == (17, 18)


@pytest.mark.skipif(not OTHER_POSTGRES.exists(), reason="PostgreSQL 15 is not installed")
async def test_another_postgresql_can_be_used(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir, binaries_folder=OTHER_POSTGRES).use() as address:
        assert str(await answer(address, "SHOW server_version")).startswith("15.")
    await until_stopped(data_dir)
    with pytest.raises(WrongPostgresVersion):
        await serves(data_dir)


async def test_missing_binaries_are_named(server_folder: Path) -> None:
    with pytest.raises(BinariesMissing, match="no program 'postgres'"):
        async with EmbeddedServer(
            server_folder / "data", binaries_folder=server_folder / "bin"
        ).use():
            pass


@as_root
async def test_as_root_the_server_runs_as_an_unprivileged_account(server_folder: Path) -> None:
    data_dir = server_folder / "new" / "data"
    previous = os.umask(0o077)
    try:
        async with EmbeddedServer(data_dir).use():
            pid = postmaster(data_dir)
            assert owner_of(pid) == (data_dir / "postgres").stat().st_uid != 0
            assert data_dir.stat().st_uid == 0
    finally:
        os.umask(previous)
    await until_stopped(data_dir)


@as_root
async def test_a_folder_the_account_cannot_reach_is_refused_and_its_parents_left_alone(
    server_folder: Path,
) -> None:
    closed = server_folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServerAccountLockedOut, match="--data-dir") as caught:
        await serves(closed / "data")
    assert caught.value.barrier == closed
    assert mode_of(closed) == 0o700


@as_root
async def test_a_database_the_account_cannot_reach_any_more_is_explained(
    server_folder: Path,
) -> None:
    above = server_folder / "above"
    await serves(above / "data")
    above.chmod(0o700)
    with pytest.raises(ServerAccountLockedOut) as caught:
        await serves(above / "data")
    assert caught.value.barrier == above
    await until_stopped(above / "data")


@as_root
async def test_binaries_the_account_cannot_reach_are_explained(server_folder: Path) -> None:
    closed = server_folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "bin").symlink_to(postgres_binaries().folder)
    server = EmbeddedServer(server_folder / "data", binaries_folder=closed / "bin")
    with pytest.raises(ServerAccountLockedOut, match="virtual environment") as caught:
        async with server.use():
            pass
    assert caught.value.barrier == closed


@as_root
async def test_a_folder_of_another_user_is_refused(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    data_dir.mkdir()
    os.chown(data_dir, 1, 1)
    with pytest.raises(DataFolderRefused, match="user id 1"):
        await serves(data_dir)
    assert data_dir.stat().st_uid == 1


@as_root
async def test_an_ordinary_user_runs_the_server_as_itself(server_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    (server_folder / "home").mkdir()
    os.chown(server_folder / "home", nobody.pw_uid, nobody.pw_gid)
    data_dir = server_folder / "home" / "data"
    async with (
        server_user(data_dir, uid=nobody.pw_uid) as user,
        server_user(data_dir, uid=nobody.pw_uid) as other,
    ):
        assert (await user.says()).startswith("in ")
        assert (await other.says()).startswith("in ")
        pid = postmaster(data_dir)
        assert owner_of(pid) == nobody.pw_uid
        assert mode_of(data_dir) == 0o700
        await user.leaves()
        await other.leaves()
    await until_stopped(data_dir)
    assert not is_alive(pid)


@as_root
async def test_a_user_without_an_entry_is_told_so(server_folder: Path) -> None:
    (server_folder / "home").mkdir()
    os.chown(server_folder / "home", WITHOUT_ENTRY, WITHOUT_ENTRY)
    async with server_user(server_folder / "home" / "data", uid=WITHOUT_ENTRY) as user:
        assert (await user.says()).startswith("ServerAccountMissing: the user id 54321")


@as_root
@pytest.mark.parametrize("account", ["daemon", "the server's"])
async def test_the_server_lets_in_nobody_but_its_user_even_where_the_folder_is_open(
    server_folder: Path, account: str
) -> None:
    data_dir = server_folder / "data"
    async with EmbeddedServer(data_dir).use() as address:
        owner = (data_dir / "postgres").stat().st_uid
        entry = pwd.getpwnam("daemon") if account == "daemon" else pwd.getpwuid(owner)
        command = [str(postgres_binaries().psql), *address.program_arguments, "--command=SELECT 1"]
        if account == "daemon":
            assert "Permission denied" in words_of(command, entry)
            data_dir.chmod(0o711)
            (data_dir / "postgres").chmod(0o711)
            (data_dir / "postgres" / ".s.PGSQL.5432").chmod(0o777)
        assert "Peer authentication failed" in words_of(command, entry)
    await until_stopped(data_dir)


def words_of(command: list[str], account: pwd.struct_passwd) -> str:
    """Return what a program says on its standard error, run by another account."""
    run = subprocess.run(  # noqa: S603 - a program of ours
        command,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        capture_output=True,
        check=False,
        text=True,
    )
    return run.stderr
