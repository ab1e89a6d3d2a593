"""Migrations, both ways, on every PostgreSQL at hand: up, down, up again, and what is refused."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge import Bridge
from omninode_bridge.core.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable
from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from omninode_bridge.infrastructure.postgres.migrations import RowsWouldBeLost
from tests.bridges import app
from tests.integration.schemas import (
    REPOSITORY,
    Alembic,
    AlembicFailed,
    Runner,
    Server,
    Way,
    alembic,
    connected,
    each_server,
    execute,
    until_waiting,
    value,
    version,
)
from tests.servers import until_stopped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from omninode_bridge.infrastructure.postgres.embedded import ServerAddress
    from tests.servers import PostgresTestServer

__all__ = ["each_server"]

NAMES: Final = [migration.name for migration in migrations.known_migrations()]
REVISIONS: Final = [name.partition("_")[0] for name in NAMES]
HEAD: Final = REVISIONS[-1]

A_STATE: Final = (
    "INSERT INTO workflow_state (workflow_key, state, provenance) VALUES ('a:1', '{}', '{}')"
)
AN_ACTION: Final = (
    'INSERT INTO event_log_action (partition, "offset", workflow_key, action_id, body)'
    " VALUES (1, 1, 'a:1', gen_random_uuid(), '{}')"
)

both_ways = pytest.mark.parametrize("way", [Runner(), Alembic()], ids=["runner", "alembic"])


@pytest.fixture
async def empty(postgres_server: PostgresTestServer) -> AsyncIterator[ServerAddress]:
    """Yield the address of an empty database."""
    async with postgres_server.database() as address:
        yield address


@pytest.fixture
async def migrated(empty: ServerAddress) -> ServerAddress:
    """Return the address of a migrated database with partitions."""
    await migrations.upgrade(empty.connect_arguments)
    await value(empty, "SELECT event_log_create_partitions(4)")
    return empty


@both_ways
async def test_each_step_goes_up_down_and_up_again(each_server: Server, way: Way) -> None:
    schemas = await each_server.schemas()
    before = None
    async with each_server.running.database() as address:
        for revision in REVISIONS:
            await way.up(address, revision)
            assert each_server.schema(address) == schemas[revision]
            assert await version(address) == revision
            await way.down(address)
            assert each_server.schema(address) == schemas[before]
            assert await version(address) == before
            before = revision  # the next one goes up again from below this one
        await way.up(address, HEAD)
        assert each_server.schema(address) == schemas[HEAD]


@both_ways
async def test_the_event_log_goes_down_with_all_its_partitions(
    each_server: Server, way: Way
) -> None:
    schemas = await each_server.schemas()
    async with each_server.running.database() as address:
        await way.up(address, "009")
        await value(address, "SELECT event_log_create_partitions(4)")
        await value(address, "SELECT event_log_add_segment('action', 1, 1, 1000)")
        await execute(address, AN_ACTION)
        await way.down(address, drop_data=True)
        assert each_server.schema(address) == schemas["008"]
        await way.up(address, "009")
        assert each_server.schema(address) == schemas["009"]


async def test_alembic_and_the_runner_take_turns(empty: ServerAddress) -> None:
    await alembic("upgrade", "007", database_url=empty.url)
    assert await migrations.upgrade(empty.connect_arguments, target="008") == NAMES[2:3]
    await alembic("upgrade", "head", database_url=empty.url)
    assert await alembic("current", database_url=empty.url) == f"{HEAD} (head)\n"
    undone = await migrations.downgrade(empty.connect_arguments, steps=len(NAMES) - 2)
    assert undone == NAMES[:1:-1]
    await alembic("downgrade", "base", database_url=empty.url)
    assert await migrations.upgrade(empty.connect_arguments) == NAMES


async def test_status_says_what_is_applied(empty: ServerAddress) -> None:
    applied = [each.applied for each in await migrations.status(empty.connect_arguments)]
    assert applied == [False] * len(NAMES)
    await migrations.upgrade(empty.connect_arguments, target="007_projection_and_watermarks")
    status = await migrations.status(empty.connect_arguments)
    assert [each.name for each in status] == NAMES
    assert [each.applied for each in status] == [True, True] + [False] * (len(NAMES) - 2)


async def test_a_database_at_head_is_only_read(migrated: ServerAddress) -> None:
    read_only = {"server_settings": {"default_transaction_read_only": "on"}}
    assert await migrations.upgrade({**migrated.connect_arguments, **read_only}) == []


async def test_an_upgrade_never_goes_back(migrated: ServerAddress) -> None:
    assert await migrations.upgrade(migrated.connect_arguments, target="006") == []
    assert await version(migrated) == HEAD


async def test_a_database_without_migrations_has_nothing_to_take_back(empty: ServerAddress) -> None:
    assert await migrations.downgrade(empty.connect_arguments, steps=3) == []


async def test_migrators_that_come_at_once_queue_and_apply_everything_once(
    empty: ServerAddress,
) -> None:
    async with connected(empty) as first:
        async with first.transaction():
            await migrations.take_lock(first)
            runners = [
                asyncio.create_task(migrations.upgrade(empty.connect_arguments)) for _ in range(3)
            ]
            command = asyncio.create_task(alembic("upgrade", "head", database_url=empty.url))
            await until_waiting(empty, 4)
        applied = [name for names in await asyncio.gather(*runners) for name in names]
        await command
    assert len(applied) == len(set(applied))
    assert await version(empty) == HEAD


async def test_who_waits_too_long_for_another_migrator_is_told_so(empty: ServerAddress) -> None:
    async with (
        connected(empty) as first,
        connected(empty) as second,
        first.transaction(),
        second.transaction(),
    ):
        await migrations.take_lock(first)
        await second.execute("SET LOCAL lock_timeout = '10ms'")
        with pytest.raises(DatabaseUnavailable, match="another process has been migrating"):
            await migrations.take_lock(second)


async def test_a_step_that_fails_leaves_the_version_before_it(empty: ServerAddress) -> None:
    await execute(empty, "CREATE TABLE projection_watermarks ()")
    with pytest.raises(DatabaseRefused, match=r"already exists.*007_projection") as refused:
        await migrations.upgrade(empty.connect_arguments)
    assert refused.value.sqlstate == "42P07"
    assert await version(empty) == "006"
    assert await value(empty, "SELECT to_regclass('workflow_state')") is not None
    assert await value(empty, "SELECT to_regclass('workflow_projection')") is None
    await execute(empty, "DROP TABLE projection_watermarks")
    assert await migrations.upgrade(empty.connect_arguments) == NAMES[1:]


async def test_a_command_of_alembics_that_fails_leaves_nothing(empty: ServerAddress) -> None:
    await execute(empty, "CREATE TABLE projection_watermarks ()")
    with pytest.raises(AlembicFailed, match=r"FAILED: .*already exists.*007_projection"):
        await alembic("upgrade", "head", database_url=empty.url)
    assert await value(empty, "SELECT to_regclass('workflow_state')") is None
    assert await value(empty, "SELECT to_regclass('alembic_version')") is None


@both_ways
async def test_a_downgrade_that_would_drop_rows_is_refused_and_changes_nothing(
    each_server: Server, way: Way
) -> None:
    async with each_server.running.database() as address:
        await migrations.upgrade(address.connect_arguments, target="009")
        await value(address, "SELECT event_log_create_partitions(4)")
        await value(address, "SELECT event_log_add_segment('action', 1, 1, 1000)")
        await execute(address, AN_ACTION)
        before = each_server.schema(address)
        expected = (
            "undoing 009_event_log would drop rows: 1 of event_log_action, 4 of"
            " event_log_action_heads, 1 of event_log_database, 4 of event_log_partitions, 24 of"
            " event_log_positions. Nothing was changed."
        )
        with pytest.raises((RowsWouldBeLost, AlembicFailed), match=expected):
            await way.down(address)
        assert each_server.schema(address) == before
        assert await version(address) == "009"
        assert await value(address, "SELECT count(*) FROM event_log_action") == 1


async def test_a_refused_downgrade_carries_what_it_would_have_dropped(empty: ServerAddress) -> None:
    await migrations.upgrade(empty.connect_arguments)
    await execute(empty, A_STATE)
    with pytest.raises(RowsWouldBeLost) as refused:
        await migrations.downgrade(empty.connect_arguments, steps=len(NAMES))
    assert refused.value.migration == "006_canonical_workflow_state"
    assert refused.value.rows == {"workflow_state": 1}
    assert await version(empty) == HEAD, "of several steps, all are taken or none"


async def test_a_row_that_is_being_added_is_counted(empty: ServerAddress) -> None:
    await migrations.upgrade(empty.connect_arguments, target="006")
    async with connected(empty) as writer, writer.transaction():
        await writer.execute(A_STATE)
        downgrade = asyncio.create_task(migrations.downgrade(empty.connect_arguments))
        await until_waiting(empty, 1)
    with pytest.raises(RowsWouldBeLost, match="1 of workflow_state"):
        await downgrade


async def test_a_column_counts_as_the_rows_it_is_in(empty: ServerAddress, tmp_path: Path) -> None:
    (tmp_path / "001_one.sql").write_text("CREATE TABLE one (a int, b int)")
    (tmp_path / "001_one.down.sql").write_text("ALTER TABLE one DROP COLUMN b")
    step = migrations.Migration("001_one", tmp_path)
    async with connected(empty) as connection:
        await migrations.run_up(connection, step)
        await connection.execute("INSERT INTO one VALUES (1, 2), (3, 4)")
        with pytest.raises(RowsWouldBeLost, match="2 of one"):
            async with connection.transaction():
                await migrations.run_down(connection, step)
        assert await connection.fetchval("SELECT sum(b) FROM one") == 6


@pytest.mark.parametrize(
    ("mark", "advice"), [("999", "a later release"), ("005", "another system"), ("1f3a", "another")]
)
async def test_a_database_of_an_unknown_version_is_refused_and_left_alone(
    migrated: ServerAddress, mark: str, advice: str
) -> None:
    await execute(migrated, f"UPDATE alembic_version SET version_num = '{mark}'")  # noqa: S608
    connect = migrated.connect_arguments
    with pytest.raises(ConfigurationError, match=f"at version {mark}.*{advice}"):
        await migrations.upgrade(connect)
    with pytest.raises(ConfigurationError, match=f"at version {mark}"):
        await migrations.downgrade(connect, drop_data=True)
    with pytest.raises(ConfigurationError, match=f"at version {mark}"):
        await migrations.status(connect)
    assert await version(migrated) == mark
    assert await value(migrated, "SELECT count(*) FROM event_log_partitions") == 4


@pytest.mark.parametrize(
    "command", [("upgrade", "head"), ("-x", "drop-data=yes", "downgrade", "-1")]
)
async def test_alembic_leaves_a_newer_database_alone(
    migrated: ServerAddress, command: tuple[str, ...]
) -> None:
    await execute(migrated, "UPDATE alembic_version SET version_num = '999'")
    with pytest.raises(AlembicFailed, match="Can't locate revision identified by '999'"):
        await alembic(*command, database_url=migrated.url)
    assert await version(migrated) == "999"
    assert await value(migrated, "SELECT count(*) FROM event_log_partitions") == 4


async def test_a_database_that_is_not_in_utf_8_is_refused(
    postgres_server: PostgresTestServer, empty: ServerAddress
) -> None:
    latin = replace(empty, database="latin")
    await execute(empty, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(ConfigurationError, match="encoding is LATIN1"):
        await migrations.upgrade(latin.connect_arguments)
    await postgres_server.drop_database(latin)


async def test_a_server_that_is_not_there_is_unavailable(server_folder: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot connect"):
        await migrations.status({"host": str(server_folder), "user": "a", "database": "b"})


@asynccontextmanager
async def greeter(folder: Path, settings: dict[str, str]) -> AsyncIterator[dict[str, str]]:
    """Run what says of itself that it is a server with these settings, and nothing more."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + (len(body) + 4).to_bytes(4, "big") + body

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(4), "big")
        await reader.readexactly(size - 4)
        writer.write(message(b"R", bytes(4)))  # whoever you are
        for name, said in settings.items():
            writer.write(message(b"S", f"{name}\0{said}\0".encode()))
        writer.write(message(b"Z", b"I"))  # ready
        await reader.readexactly(5)  # good-bye
        writer.close()

    async with await asyncio.start_unix_server(greet, folder / ".s.PGSQL.5432"):
        yield {"host": str(folder), "user": "a", "database": "b"}


async def test_a_server_that_is_too_old_is_refused(tmp_path: Path) -> None:
    async with greeter(tmp_path, {"server_version": "13.22"}) as connect:
        with pytest.raises(ConfigurationError, match=r"is PostgreSQL 13\.22, and .* needs 14"):
            await migrations.upgrade(connect)


async def test_a_pooler_need_not_tell_the_encoding(tmp_path: Path) -> None:
    async with greeter(tmp_path, {"server_version": "14.0"}) as connect:
        connection = await migrations.open_connection(connect)
        await connection.close()


async def test_an_embedded_start_applies_what_is_lacking(server_folder: Path) -> None:
    data_dir = server_folder / "data"
    server = EmbeddedServer(data_dir)
    async with server.use() as address:
        await migrations.upgrade(address.connect_arguments, target="007")
        await execute(address, A_STATE)
    async with Bridge.open(app, data_dir=data_dir) as bridge:
        outcome = await bridge.submit("counter:1", "Counted", {"amount": 1})
        assert outcome.committed().version == 1
        async with server.use() as address:
            assert await version(address) == HEAD
            assert await value(address, "SELECT count(*) FROM workflow_state") == 2
    async with server.use() as address:
        await execute(address, "UPDATE alembic_version SET version_num = '999'")
    with pytest.raises(ConfigurationError, match=r"at version 999.*a later release"):
        async with Bridge.open(app, data_dir=data_dir):
            pass
    await until_stopped(data_dir)


async def test_a_target_that_does_not_exist_is_refused(empty: ServerAddress) -> None:
    with pytest.raises(ConfigurationError, match=r"no migration '010_later'.*006_canonical"):
        await migrations.upgrade(empty.connect_arguments, target="010_later")


async def test_a_downgrade_takes_at_least_one_step(empty: ServerAddress) -> None:
    with pytest.raises(ConfigurationError, match="at least one step, not 0"):
        await migrations.downgrade(empty.connect_arguments, steps=0)


async def test_the_script_that_alembic_prints_makes_the_same_schema(each_server: Server) -> None:
    schemas = await each_server.schemas()
    async with each_server.running.database() as address:
        await execute(address, await alembic("upgrade", "head", "--sql"))
        assert each_server.schema(address) == schemas[HEAD]
        assert await version(address) == HEAD
        script = await alembic("-x", "drop-data=yes", "downgrade", f"{HEAD}:006", "--sql")
        await execute(address, script)
        assert each_server.schema(address) == schemas["006"]
        assert await version(address) == "006"


async def test_a_downgrade_is_printed_only_for_who_gives_up_the_rows() -> None:
    with pytest.raises(AlembicFailed, match="cannot be seen without the database"):
        await alembic("downgrade", "009:008", "--sql")


async def test_alembic_takes_the_database_of_its_command_line_first(empty: ServerAddress) -> None:
    option = f"database-url={empty.url}"
    await alembic("-x", option, "upgrade", "006", database_url="postgresql://nobody@/nowhere")
    assert await version(empty) == "006"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("upgrade", "head"), "which database"),
        (("-x", "drop_data=yes", "upgrade", "head"), "no such option: -x drop_data"),
    ],
)
async def test_alembic_says_what_is_wrong_with_its_command_line(
    words: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(AlembicFailed, match=f"FAILED: {expected}"):
        await alembic(*words)


async def test_consent_to_drop_rows_is_yes_or_no(migrated: ServerAddress) -> None:
    with pytest.raises(AlembicFailed, match="drop-data is yes or no, not 'please'"):
        await alembic("-x", "drop-data=please", "downgrade", "-1", database_url=migrated.url)


async def test_the_next_migration_is_made_from_the_template(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "alembic.ini", tmp_path)
    shutil.copytree(REPOSITORY / "migrations", tmp_path / "migrations")
    command = ("revision", "--rev-id", "999", "-m", "Due actions")
    await alembic(*command, folder=tmp_path)
    last, new = sorted((tmp_path / "migrations" / "versions").glob("*.py"))[-2:]
    assert new.name == "999_due_actions.py"
    assert new.read_text() == (
        last.read_text()
        .replace(f'down_revision = "{REVISIONS[-2]}"', f'down_revision = "{HEAD}"')
        .replace(f'revision = "{HEAD}"', 'revision = "999"', 1)
        .replace(f"Run {HEAD}", "Run 999")
        .replace(last.read_text().partition(".")[0], '"""Due actions')
    )


async def answer_of_python(source: str, folder: Path) -> str:
    """Run a line of Python with the package that is in `folder`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", source),
        env={"PYTHONPATH": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, log = await process.communicate()
    return (said + log).decode()


async def test_the_runner_does_without_alembic() -> None:
    source = (
        "import sys, omninode_bridge.infrastructure.postgres.migrations;"
        "print({'alembic', 'sqlalchemy'} & set(sys.modules))"
    )
    assert await answer_of_python(source, REPOSITORY / "src") == "set()\n"


async def test_the_files_are_found_in_a_package_and_missed_when_they_are_not_there(
    tmp_path: Path,
) -> None:
    package = tmp_path / "lib" / "omninode_bridge"
    shutil.copytree(REPOSITORY / "src" / "omninode_bridge", package)
    source = (
        "from omninode_bridge.infrastructure.postgres.migrations import *;"
        "print(migrations_folder())"
    )
    missing = await answer_of_python(source, tmp_path / "lib")
    assert "ConfigurationError: this installation of omninode-bridge lacks" in missing
    shutil.copytree(REPOSITORY / "migrations", package / "_migrations")
    assert await answer_of_python(source, tmp_path / "lib") == f"{package / '_migrations'}\n"


async def test_a_mark_by_two_heads_is_refused(migrated: ServerAddress) -> None:
    await execute(migrated, "INSERT INTO alembic_version VALUES ('006')")
    with pytest.raises(ConfigurationError, match=f"at version 006 and {HEAD}"):
        await migrations.status(migrated.connect_arguments)


async def test_a_driver_whose_connection_ends_is_unavailable(migrated: ServerAddress) -> None:
    async with connected(migrated) as holder, holder.transaction():
        await migrations.take_lock(holder)
        downgrade = asyncio.create_task(migrations.downgrade(migrated.connect_arguments))
        await until_waiting(migrated, 1)
        await holder.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted"
            " AND locktype = 'advisory'"
        )
        with pytest.raises(DatabaseUnavailable):
            await downgrade
    assert await version(migrated) == HEAD
