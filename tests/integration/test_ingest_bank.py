"""A real bank's log: 262,200 events of 13,087 loan applications (BPI Challenge 2012)."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import coverage
import pytest

from omninode_bridge.ingest import load_contract
from tests.integration.test_ingest import counts, run, tags, verified

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY: Final = Path(__file__).parents[2]
CONTRACT: Final = REPOSITORY / "examples" / "loan-application.yaml"
LOG: Final = REPOSITORY.parent / "shared" / "data" / "bpic2012.csv.gz"
ROWS: Final = 262_200
KEYS: Final = 13_087


@pytest.fixture(autouse=True)
def untraced() -> Iterator[None]:
    """Trace nothing: it takes three times as long, and the smaller tests cover these lines."""
    tracing = coverage.Coverage.current()
    if tracing is None:
        yield
        return
    tracing.stop()
    yield
    tracing.start()


needs_the_log = pytest.mark.skipif(not LOG.exists(), reason=f"the bank's log is not at {LOG}")


@needs_the_log
@pytest.mark.timeout(600)
async def test_the_log_of_a_bank_leads_to_what_became_of_its_applications(
    database_url: str, tmp_path: Path
) -> None:
    contract = load_contract(CONTRACT.read_text(encoding="utf-8"), str(CONTRACT))
    summary = await run(database_url, LOG, contract)
    assert counts(summary) == {"rows": ROWS, "actions": ROWS, "keys": KEYS, "committed": ROWS}
    assert await tags(database_url, "loans") == {
        "DECLINED": 7_635,
        "CANCELLED": 2_807,
        "APPROVED": 2_246,
        "FINALIZED": 327,
        "PREACCEPTED": 69,
        "ACCEPTED": 3,
    }
    # Plain, and the beginning only: the same rows.
    beginning = tmp_path / "beginning.csv"
    with gzip.open(LOG, "rt", encoding="utf-8", newline="") as lines:
        beginning.write_text("".join(islice(lines, 20_001)), encoding="utf-8", newline="")
    again = await run(database_url, beginning, contract)
    assert (again.rows, again.committed, again.duplicates) == (20_000, 0, 20_000)
    assert await verified(database_url) == ROWS + 1


@needs_the_log
@pytest.mark.soak
@pytest.mark.timeout(1_200)
async def test_a_second_run_of_the_whole_log_commits_nothing(database_url: str) -> None:
    contract = load_contract(CONTRACT.read_text(encoding="utf-8"), str(CONTRACT))
    await run(database_url, LOG, contract)
    again = await run(database_url, LOG, contract)
    assert counts(again) == {"rows": ROWS, "actions": ROWS, "keys": KEYS, "duplicates": ROWS}
