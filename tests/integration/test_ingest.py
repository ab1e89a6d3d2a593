"""Ingesting: each row an action, once, whatever the file, the contract and the run before."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from omninode_bridge import (
    App,
    Bridge,
    BridgeClosed,
    ConfigurationError,
    GaveUp,
    OutcomeUnknown,
)
from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.ingest import (
    Contract,
    ContractError,
    InvalidFile,
    InvalidRow,
    Progress,
    Summary,
    app_of,
    ingest,
    load_contract,
    stored_app,
    stored_contracts,
)
from omninode_bridge.ingest.csv_file import open_csv
from omninode_bridge.ingest.pipeline import Pipeline
from omninode_bridge.ingest.rows import Row, RowReader
from tests.faults.server import StoppableServer
from tests.integration.ingesting import ROUND, write_rounds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
SAMPLE: Final = EXAMPLES / "loans-sample.csv"
EQUAL: Final = """
UPDATE event_log_members SET app = first.app
FROM (SELECT app FROM event_log_members ORDER BY joined_at LIMIT 1) AS first
WHERE event_log_members.app <> first.app
"""
HEADER: Final = "case,activity,lifecycle,resource,timestamp,attributes"


def loans(old: str = "", new: str = "") -> Contract:
    """Return the example's contract, with something replaced."""
    file = EXAMPLES / "loan-application.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    return load_contract(text.replace(old, new, 1), file.name)


def loan_row(case: str = "1", activity: str = "A_SUBMITTED", attributes: str = "") -> str:
    return f"{case},{activity},COMPLETE,web,2026-03-02T12:00:00Z,{attributes}"


def write(file: Path, *rows: str) -> Path:
    file.write_text("\n".join((HEADER, *rows, "")), encoding="utf-8")
    return file


async def run(
    url: str,
    file: Path,
    contract: Contract,
    *,
    strict: bool = False,
    report: Callable[[InvalidRow], None] = lambda _: None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Summary:
    """Ingest as the command line does: with what is stored, and the contract."""
    async with Bridge.open(App("reader"), database_url=url, writing=False) as bridge:
        stored = await stored_contracts(bridge)
    async with Bridge.open(app_of([*stored, contract]), database_url=url) as bridge:
        return await ingest(bridge, file, contract, strict=strict, report=report, progress=progress)


async def verified(url: str) -> int:
    """Verify without any file; return how many actions were folded again."""
    async with Bridge.open(App("reader"), database_url=url, writing=False) as bridge:
        app = await stored_app(bridge)
    async with Bridge.open(app, database_url=url, writing=False) as bridge:
        verification = await bridge.verify()
    assert verification.mismatches == []
    assert verification.unregistered == {}
    return verification.actions


async def tags(url: str, namespace: str) -> Counter[str]:
    """Return how many keys have each tag, as `list` shows them."""
    found: Counter[str] = Counter()
    after: str | None = None
    async with Bridge.open(App("reader"), database_url=url, writing=False) as bridge:
        while page := await bridge.list(namespace=namespace, after=after, limit=1_000):
            found.update(row.tag for row in page)
            after = page[-1].workflow_key
    return found


def counts(summary: Summary) -> dict[str, Any]:
    """Return the counts that are not zero."""
    return {name: n for name, n in summary.as_dict().items() if n and name != "seconds"}


# -- what a run does -------------------------------------------------------------------------------


async def test_the_sample_becomes_loan_applications(database_url: str) -> None:
    summary = await run(database_url, SAMPLE, loans())
    assert counts(summary) == {"rows": 30, "actions": 30, "keys": 6, "committed": 30}
    assert await tags(database_url, "loans") == {
        "APPROVED": 1,
        "DECLINED": 1,
        "CANCELLED": 1,
        "FINALIZED": 1,
        "PREACCEPTED": 1,
        "SUBMITTED": 1,
    }
    async with Bridge.open(App("reader"), database_url=database_url, writing=False) as bridge:
        stored = await bridge.state("loan-application:1003")
    assert stored is not None
    assert stored.version == 6
    assert stored.state == {
        "status": "CANCELLED",
        "counts": {
            "A_SUBMITTED": 1,
            "A_PARTLYSUBMITTED": 1,
            "A_PREACCEPTED": 1,
            "W_Call customer": 2,
            "A_CANCELLED": 1,
        },
        "first_at": "2026-03-02T08:12:00+00:00",
        "last_at": "2026-03-02T08:58:00+00:00",
    }
    assert await verified(database_url) == 31


async def test_a_second_run_commits_nothing(database_url: str, tmp_path: Path) -> None:
    await run(database_url, SAMPLE, loans())
    again = await run(database_url, SAMPLE, loans())
    assert counts(again) == {"rows": 30, "actions": 30, "keys": 6, "duplicates": 30}
    compressed = tmp_path / "other-name.csv.gz"
    compressed.write_bytes(gzip.compress(SAMPLE.read_bytes()))
    assert (await run(database_url, compressed, loans(), strict=True)).duplicates == 30
    assert await verified(database_url) == 31


async def test_outcomes_are_remembered_for_ever(database_url: str) -> None:
    await run(database_url, SAMPLE, loans())
    connection = await asyncpg.connect(database_url)
    try:
        expiries = await connection.fetch(
            "SELECT DISTINCT expires_at FROM action_dedup_log WHERE workflow_key LIKE 'loan-%'"
        )
        assert [str(row["expires_at"].year) for row in expiries] == ["9999"]
    finally:
        await connection.close()


async def test_a_file_that_has_grown_commits_what_is_new(database_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", loan_row("1"), loan_row("2"))
    await run(database_url, file, loans())
    write(file, loan_row("1"), loan_row("2"), loan_row("2"), loan_row("3"))
    summary = await run(database_url, file, loans())
    assert (summary.committed, summary.duplicates) == (2, 2)


async def test_equal_rows_count_each(database_url: str, tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", *[loan_row()] * 1_200)
    assert (await run(database_url, file, loans())).committed == 1_200
    assert (await run(database_url, file, loans())).duplicates == 1_200


async def test_rows_of_a_key_are_applied_in_the_order_of_the_file(
    database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "rounds.csv"
    write_rounds(file, keys=3, rows=10_000)
    summary = await run(database_url, file, load_contract(ROUND, "round.yaml"))
    assert counts(summary) == {"rows": 10_000, "actions": 10_000, "keys": 3, "committed": 10_000}


async def test_what_the_contract_rejects_is_rejected_once(
    database_url: str, tmp_path: Path
) -> None:
    told: list[InvalidRow] = []
    file = write(tmp_path / "log.csv", loan_row(), loan_row(activity="W_Other"))
    contract = loans("unmatched: keep", "unmatched: reject")
    summary = await run(database_url, file, contract, report=told.append)
    assert counts(summary) == {"rows": 2, "actions": 2, "keys": 1, "committed": 1, "rejected": 1}
    assert told == []
    again = await run(database_url, file, contract)
    assert counts(again) == {"rows": 2, "actions": 2, "keys": 1, "duplicates": 2}


async def test_progress_is_told_up_to_ten_times_a_second_and_at_the_end(
    database_url: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "log.csv", *[loan_row(str(n)) for n in range(5_000)])
    told: list[tuple[float, Progress]] = []
    summary = await run(
        database_url, file, loans(), progress=lambda p: told.append((monotonic(), p))
    )
    assert len(told) <= summary.seconds * 10 + 2
    assert told[-1][1] == Progress(file.stat().st_size, file.stat().st_size, 5_000)
    assert [p.rows for _, p in told] == sorted(p.rows for _, p in told)


# -- contracts -------------------------------------------------------------------------------------


async def test_the_contract_is_stored_and_read_again(database_url: str) -> None:
    await run(database_url, SAMPLE, loans())
    async with Bridge.open(App("reader"), database_url=database_url, writing=False) as bridge:
        assert await stored_contracts(bridge) == [loans()]
        stored = await bridge.state("contract:loan-application")
        row = await bridge.read("contract:loan-application")
    assert stored is not None
    assert stored.state == {"name": "loan-application", "versions": {"1": loans().as_dict()}}
    assert row is not None
    assert (row.tag, row.namespace) == ("1", "contracts")


async def test_a_changed_contract_needs_another_version(database_url: str, tmp_path: Path) -> None:
    await run(database_url, SAMPLE, loans())
    with pytest.raises(ContractError, match=r"loan-application\.yaml:4: .*raise 'version'"):
        await run(database_url, SAMPLE, loans("namespace: loans", "namespace: others"))
    newer = loans("version: 1", "version: 2")
    file = write(tmp_path / "log.csv", loan_row("1001", "A_DECLINED"))
    assert (await run(database_url, file, newer)).committed == 1
    assert (await run(database_url, SAMPLE, newer)).duplicates == 30
    async with Bridge.open(App("reader"), database_url=database_url, writing=False) as bridge:
        assert [c.version for c in await stored_contracts(bridge)] == [1, 2]
    assert (await tags(database_url, "loans"))["DECLINED"] == 2
    assert await verified(database_url) == 33


async def test_an_older_version_than_the_newest_stored_one_ingests_nothing(
    database_url: str, tmp_path: Path
) -> None:
    await run(database_url, SAMPLE, loans())
    file = write(tmp_path / "log.csv", loan_row("1001", "A_DECLINED"))
    for version in (3, 12):
        await run(database_url, SAMPLE, loans("version: 1", f"version: {version}"))
        for older in (1, 2):  # stored, and not
            with pytest.raises(ContractError) as caught:
                await run(database_url, file, loans("version: 1", f"version: {older}"))
            assert caught.value.line == 4
            assert caught.value.detail == (
                f"version {version} is stored already; new rows are reduced by it: ingest with that"
                " contract, or raise the version"
            )
    assert await verified(database_url) == 33


async def test_two_writers_cannot_store_two_contents_of_one_version(database_url: str) -> None:
    other = loans("namespace: loans", "namespace: others")
    async with (
        Bridge.open(app_of([loans()]), database_url=database_url) as bridge,
        Bridge.open(app_of([other]), database_url=database_url) as late,
    ):
        await ingest(bridge, SAMPLE, loans())
        with pytest.raises(ContractError, match="raise 'version'"):
            await ingest(late, SAMPLE, other)


async def test_two_contracts_do_not_share_keys(database_url: str) -> None:
    await run(database_url, SAMPLE, loans())
    with pytest.raises(ContractError, match="belong to the contract 'loan-application'"):
        await run(database_url, SAMPLE, loans("name: loan-application", "name: loan"))


async def test_a_users_namespace_may_be_called_contracts(database_url: str) -> None:
    contract = loans("namespace: loans", "namespace: contracts")
    await run(database_url, SAMPLE, contract)
    assert (await run(database_url, SAMPLE, contract)).duplicates == 30


async def test_a_contract_that_does_not_fit_the_file_is_not_stored(
    database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "log.csv"
    file.write_text("case,activity\n1,A_SUBMITTED\n")
    with pytest.raises(ContractError, match=r"loan-application\.yaml:8: .* no column 'timestamp'"):
        await run(database_url, file, loans())
    async with Bridge.open(App("reader"), database_url=database_url, writing=False) as bridge:
        assert await stored_contracts(bridge) == []


async def test_a_bridge_that_does_not_know_the_contract_or_only_reads_is_refused(
    database_url: str,
) -> None:
    async with Bridge.open(app_of([]), database_url=database_url) as bridge:
        with pytest.raises(ConfigurationError, match="app_of"):
            await ingest(bridge, SAMPLE, loans())
    app = app_of([loans()])
    async with Bridge.open(app, database_url=database_url, writing=False) as bridge:
        with pytest.raises(BridgeClosed):
            await ingest(bridge, SAMPLE, loans())


# -- bad input -------------------------------------------------------------------------------------

MALFORMED: Final = {
    3: "2,A_SUBMITTED",
    4: loan_row("3").replace("Z", ""),
    5: loan_row("4", attributes="{"),
    6: loan_row(""),
    7: loan_row("x" * 600),
    8: loan_row("5", ""),
    9: loan_row("6", "StateReplaced"),
    10: loan_row("7", attributes='"{""a"":""\\u0000""}"'),
    11: loan_row("8\0"),
}


async def test_malformed_rows_are_reported_with_their_lines_and_skipped(
    database_url: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "log.csv", loan_row("1"), *MALFORMED.values(), loan_row("9"))
    told: list[InvalidRow] = []
    summary = await run(database_url, file, loans(), report=told.append)
    assert counts(summary) == {"rows": 11, "actions": 2, "keys": 2, "committed": 2, "invalid": 9}
    assert sorted(row.line for row in told) == list(MALFORMED)
    assert all(str(row).startswith(f"{file}:{row.line}: ") for row in told)
    assert await tags(database_url, "loans") == {"SUBMITTED": 2}


async def test_strict_checks_the_whole_file_before_anything_is_stored(
    database_url: str, tmp_path: Path
) -> None:
    many = [loan_row(str(n)) for n in range(1_000)]
    for bad in MALFORMED.values():
        told: list[InvalidRow] = []
        file = write(tmp_path / "log.csv", *many, bad)
        summary = await run(database_url, file, loans(), strict=True, report=told.append)
        assert counts(summary) == {"rows": 1_001, "invalid": 1}
        assert [row.line for row in told] == [1_002]
    assert await verified(database_url) == 0
    good = await run(database_url, write(file, *many), loans(), strict=True)
    assert (good.committed, good.invalid) == (1_000, 0)


async def test_a_file_that_is_cut_off_gives_what_it_has_and_the_whole_one_the_rest(
    database_url: str, tmp_path: Path
) -> None:
    rows = [loan_row(str(n)) for n in range(20_000)]
    whole = gzip.compress(write(tmp_path / "log.csv", *rows).read_bytes())
    file = tmp_path / "log.csv.gz"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidFile, match="cut off"):
        await run(database_url, file, loans(), strict=True)
    assert await verified(database_url) == 0
    with pytest.raises(InvalidFile, match="cut off") as caught:
        await run(database_url, file, loans())
    assert caught.value.line is not None
    before = caught.value.line - 2
    assert 0 < before < len(rows)
    assert await verified(database_url) == before + 1
    assert caught.value.summary is not None
    assert counts(caught.value.summary) == dict.fromkeys(
        ("rows", "actions", "keys", "committed"), before
    )
    file.write_bytes(whole)
    summary = await run(database_url, file, loans())
    assert (summary.committed, summary.duplicates) == (len(rows) - before, before)


async def test_a_file_that_cannot_be_read_stores_nothing(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="No such file") as caught:
        await run(database_url, tmp_path / "none.csv", loans())
    assert caught.value.summary is None
    assert await verified(database_url) == 0


# -- when the database does not answer -------------------------------------------------------------


async def test_an_outage_costs_no_row_and_no_order(tmp_path: Path, server_folder: Path) -> None:
    file, contract = tmp_path / "rounds.csv", load_contract(ROUND, "round.yaml")
    write_rounds(file, keys=5, rows=20_000)
    under_way = asyncio.Event()
    async with StoppableServer(server_folder / "server") as server:
        await migrations.upgrade({"dsn": server.url})
        async with Bridge.open(app_of([contract]), database_url=server.url) as bridge:
            ingesting = asyncio.create_task(
                ingest(bridge, file, contract, progress=lambda _: under_way.set())
            )
            await under_way.wait()
            for _ in range(2):
                await server.stop("immediate")
                await server.start()
            summary = await ingesting
            assert (summary.rows, summary.rejected) == (20_000, 0)
            # What was committed when the connection broke is found again as a duplicate.
            assert summary.committed + summary.duplicates == 20_000
            verification = await bridge.verify()
        assert verification.mismatches == []
        assert verification.actions == 20_001


async def test_waiting_for_an_answer_has_an_end(database_url: str, tmp_path: Path) -> None:
    file, contract = tmp_path / "rounds.csv", load_contract(ROUND, "round.yaml")
    write_rounds(file, keys=5, rows=1)
    with open_csv(file) as table:
        reader = RowReader(contract, table.header, table.name)
        rows = [row for row in reader.read(table.records()) if isinstance(row, Row)]
    lock = await asyncpg.connect(database_url)
    try:
        async with Bridge.open(app_of([contract]), database_url=database_url) as bridge:
            pipeline = Pipeline(bridge, lambda *_: None, answer_wait_s=0.1)
            async with lock.transaction():
                await lock.execute("SELECT 1 FROM event_log_partitions FOR UPDATE")
                await pipeline.put(rows)
                with pytest.raises(OutcomeUnknown, match=r"within 0\.1 s"):
                    await pipeline.finish()
    finally:
        await lock.close()


@asynccontextmanager
async def owned_by(owner: App, url: str) -> AsyncIterator[Bridge]:
    """Yield a bridge that knows the loans, beside the owner of all, which does not.

    It would wait for the owner's end: by force, it is taken for an equal.
    """

    async def make_equal() -> None:
        while await connection.execute(EQUAL) == "UPDATE 0":  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)

    connection = await asyncpg.connect(url)
    making = asyncio.create_task(make_equal())
    try:
        async with (
            Bridge.open(owner, database_url=url, partitions=1),
            Bridge.open(app_of([loans()]), database_url=url) as bridge,
        ):
            yield bridge
    finally:
        await making
        await connection.close()


async def test_an_owner_that_does_not_know_contracts_does_no_lasting_harm_to_one(
    database_url: str,
) -> None:
    async with owned_by(App("other"), database_url) as bridge:
        with pytest.raises(GaveUp, match="no reducer is registered for keys contract"):
            await ingest(bridge, SAMPLE, loans())
    assert (await run(database_url, SAMPLE, loans())).committed == 30


async def test_what_is_given_up_for_a_reason_of_its_own_is_reported_with_its_line(
    database_url: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "log.csv", loan_row("1"), loan_row("2"))
    told: list[InvalidRow] = []
    async with owned_by(app_of([]), database_url) as bridge:
        summary = await ingest(bridge, file, loans(), report=told.append)
    assert counts(summary) == {"rows": 2, "actions": 2, "keys": 2, "rejected": 2}
    assert [row.line for row in told] == [2, 3]
    assert "given up (invalid): no reducer is registered" in told[0].reason
