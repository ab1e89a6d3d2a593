"""Connections on a real server: what they lend, and how the driver's errors come out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from omninode_bridge.core.errors import (
    BridgeError,
    BrokenPromise,
    DatabaseRefused,
    DatabaseUnavailable,
    PartitionsChanged,
    ValueRefused,
)
from omninode_bridge.infrastructure.postgres import database as module
from omninode_bridge.infrastructure.postgres.database import Database, plain_uuid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Connect = dict[str, str | int]


@pytest.fixture
async def opened(database: Connect) -> AsyncIterator[Database]:
    """Yield two connections to an empty database."""
    async with Database(database, connections_max=2) as lent:
        yield lent


# -- what is lent ----------------------------------------------------------------------------------


async def test_a_statement_gives_rows_a_row_a_value_or_its_tag(opened: Database) -> None:
    assert [row["n"] for row in await opened.fetch("SELECT generate_series(1, $1) n", 3)] == [
        1,
        2,
        3,
    ]
    row = await opened.fetchrow("SELECT 1 AS a, 'b' AS b")
    assert row is not None
    assert dict(row) == {"a": 1, "b": "b"}
    assert await opened.fetchrow("SELECT 1 WHERE false") is None
    assert await opened.fetchval("SELECT $1::text", "ö") == "ö"
    assert await opened.fetchval("SELECT 1 WHERE false") is None
    assert await opened.execute("CREATE TABLE one (n int)") == "CREATE TABLE"
    assert await opened.execute("INSERT INTO one SELECT generate_series(1, 3)") == "INSERT 0 3"


async def test_a_transaction_becomes_durable_when_its_context_ends(opened: Database) -> None:
    await opened.execute("CREATE TABLE one (n int)")
    async with opened.transaction() as connection:
        await connection.execute("INSERT INTO one VALUES (1)")
        assert await opened.fetchval("SELECT count(*) FROM one") == 0
    assert await opened.fetchval("SELECT count(*) FROM one") == 1


async def test_an_error_in_a_transaction_takes_it_back_and_comes_out_as_it_is(
    opened: Database,
) -> None:
    await opened.execute("CREATE TABLE one (n int)")

    async def stumble() -> None:
        async with opened.transaction() as connection:
            await connection.execute("INSERT INTO one VALUES (1)")
            raise ValueError(1)

    with pytest.raises(ValueError, match="1"):
        await stumble()
    assert await opened.fetchval("SELECT count(*) FROM one") == 0


async def test_a_transaction_has_the_isolation_that_was_asked_for(opened: Database) -> None:
    async with opened.transaction(isolation="repeatable_read", readonly=True) as connection:
        assert await connection.fetchval("SHOW transaction_isolation") == "repeatable read"
        assert await connection.fetchval("SHOW transaction_read_only") == "on"


async def test_nothing_is_asked_when_a_connection_goes_back(opened: Database) -> None:
    async with opened.connection() as watching:
        pid = await opened.fetchval("SELECT pg_backend_pid()")
        last = "SELECT query FROM pg_stat_activity WHERE pid = $1"
        assert await watching.fetchval(last, pid) == "SELECT pg_backend_pid()"


async def test_no_more_connections_are_made_than_allowed(opened: Database) -> None:
    async with opened.connection(), opened.connection():
        waiting = asyncio.create_task(opened.fetchval("SELECT 1"))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting == 1
    pids = {await opened.fetchval("SELECT pg_backend_pid()") for _ in range(10)}
    assert len(pids) <= 2


async def test_a_uuid_of_the_driver_becomes_a_plain_one(opened: Database) -> None:
    given = UUID(int=7)
    back = plain_uuid(await opened.fetchval("SELECT $1::uuid", given))
    assert (type(back), back) == (UUID, given)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "arguments", "sqlstate"),
    [
        ("SELECT 1 / 0", (), "22012"),
        ("SELECT 'a'::int", (), "22P02"),
        ("SELECT 9999999999::int", (), "22003"),
        ("SELECT $1::text", ("a\0b",), "22021"),
        ("SELECT $1::text::jsonb", ('"\\u0000"',), "22P05"),
        ("SELECT array_fill(0, ARRAY[1000000000])", (), "54000"),
        # These do not even reach the server.
        ("SELECT $1::int", ("text",), "22000"),
        ("SELECT $1::int", (2**31,), "22000"),
        ("SELECT $1::text", ("\ud800",), "22000"),
        ("SELECT $1::uuid", ("no id",), "22000"),
        ("SELECT $1::text[]", (["good", "\ud800"],), "22000"),
        ("SELECT $1::bigint[]", ([1, 2**63],), "22000"),
        ("SELECT $1::text[]", (["good", None, 1],), "22000"),
    ],
)
async def test_a_value_that_no_row_takes_is_refused_as_a_value(
    opened: Database, statement: str, arguments: tuple[object, ...], sqlstate: str
) -> None:
    with pytest.raises(ValueRefused) as refused:
        await opened.fetch(statement, *arguments)
    assert refused.value.sqlstate == sqlstate
    assert refused.value.__cause__ is not None


@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        ("SELEC 1", "42601"),
        ("SELECT * FROM nowhere", "42P01"),
        ("CREATE TABLE one (n int, n int)", "42701"),
        ("CREATE TABLE pg_catalog.one (n int)", "42501"),
    ],
)
async def test_a_statement_that_is_wrong_is_refused(
    opened: Database, statement: str, sqlstate: str
) -> None:
    with pytest.raises(DatabaseRefused) as refused:
        await opened.execute(statement)
    assert refused.value.sqlstate == sqlstate
    assert not isinstance(refused.value, ValueRefused)


async def test_a_row_that_is_there_already_is_refused(opened: Database) -> None:
    await opened.execute("CREATE TABLE one (n int PRIMARY KEY)")
    await opened.execute("INSERT INTO one VALUES (1)")
    with pytest.raises(DatabaseRefused, match="duplicate key") as refused:
        await opened.execute("INSERT INTO one VALUES (1)")
    assert refused.value.sqlstate == "23505"
    assert "duplicate key" in refused.value.detail


async def test_the_refusal_of_an_old_number_of_partitions_says_what_to_do(opened: Database) -> None:
    block = "DO $$ BEGIN RAISE EXCEPTION 'these words' USING ERRCODE = 'OB002'; END $$"
    with pytest.raises(PartitionsChanged, match="open it anew"):
        await opened.execute(block)


@pytest.mark.parametrize(
    ("sqlstate", "error"),
    [
        ("OB001", BrokenPromise),
        ("22000", ValueRefused),
        ("54001", ValueRefused),
        ("08006", DatabaseUnavailable),  # connection failure
        ("25006", DatabaseUnavailable),  # read only: a standby, before it is promoted
        ("40001", DatabaseUnavailable),  # serialization failure
        ("40P01", DatabaseUnavailable),  # deadlock
        ("53100", DatabaseUnavailable),  # disk full
        ("53300", DatabaseUnavailable),  # too many connections
        ("55P03", DatabaseUnavailable),  # lock not available
        ("57014", DatabaseUnavailable),  # cancelled by a person
        ("57P03", DatabaseUnavailable),  # starting up
        ("58030", DatabaseUnavailable),  # disk error
        ("0A000", DatabaseRefused),
        ("23514", DatabaseRefused),
        ("28000", DatabaseRefused),
        ("42501", DatabaseRefused),
        ("P0001", DatabaseRefused),
        ("XX000", DatabaseRefused),
        ("OB003", DatabaseRefused),
    ],
)
async def test_every_sqlstate_comes_out_as_one_error_of_ours(
    opened: Database, sqlstate: str, error: type[BridgeError]
) -> None:
    block = f"DO $$ BEGIN RAISE EXCEPTION 'these words' USING ERRCODE = '{sqlstate}'; END $$"
    with pytest.raises(error, match="these words") as raised:
        await opened.execute(block)
    assert type(raised.value) is error
    if error is DatabaseUnavailable:
        assert sqlstate in str(raised.value)


# -- what is unavailable ---------------------------------------------------------------------------


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        async with Database({"host": str(tmp_path), "user": "a"}, connections_max=1):
            pass


async def test_a_database_that_is_not_there_is_refused(database: Connect) -> None:
    with pytest.raises(DatabaseRefused, match="does not exist") as refused:
        async with Database({**database, "database": "nowhere"}, connections_max=1):
            pass
    assert refused.value.sqlstate == "3D000"


async def test_a_connection_that_is_lost_is_unavailable_and_the_next_one_is_new(
    opened: Database,
) -> None:
    with pytest.raises(DatabaseUnavailable):
        await opened.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await opened.fetchval("SELECT 1") == 1


async def test_a_connection_lost_while_it_lies_idle_is_replaced(opened: Database) -> None:
    async with opened.connection() as killer:
        idle = await opened.fetchval("SELECT pg_backend_pid()")
        await killer.execute("SELECT pg_terminate_backend($1, 10000)", idle)
        answer = None
        async with asyncio.timeout(10):
            while answer is None:
                try:
                    answer = await opened.fetchval("SELECT pg_backend_pid()")
                except DatabaseUnavailable:
                    continue
    assert answer != idle


async def test_a_call_that_takes_too_long_is_unavailable(
    database: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALL_TIMEOUT_S", 0.05)
    async with Database(database, connections_max=1) as opened:
        with pytest.raises(DatabaseUnavailable, match="TimeoutError"):
            await opened.execute("SELECT pg_sleep(60)")
        with pytest.raises(DatabaseUnavailable, match="TimeoutError"):
            async with opened.connection():
                await opened.fetchval("SELECT 1")


async def test_what_is_not_open_is_unavailable(database: Connect) -> None:
    closed = Database(database, connections_max=1)
    with pytest.raises(DatabaseUnavailable, match="not open"):
        await closed.fetch("SELECT 1")
    async with closed:
        pass
    with pytest.raises(DatabaseUnavailable, match="not open"):
        await closed.fetch("SELECT 1")
    await closed.__aexit__(None, None, None)


async def test_closing_does_not_wait_for_ever_for_what_is_lent(
    database: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_WAIT_S", 0.05)
    async with Database(database, connections_max=1) as opened:
        lending = opened.connection()
        lent = await lending.__aenter__()
    with pytest.raises(asyncpg.InterfaceError, match="released back"):
        lent.is_closed()
    await lending.__aexit__(None, None, None)
