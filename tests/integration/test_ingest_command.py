"""`ingest` as a user runs it: what it prints, what it says, and how it ends."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

import pytest

from tests.programs import Program

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
CONTRACT: Final = EXAMPLES / "loan-application.yaml"
SAMPLE: Final = EXAMPLES / "loans-sample.csv"
HEADER: Final = "case,activity,lifecycle,resource,timestamp,attributes"


@pytest.fixture
def program(server_folder: Path) -> Program:
    """Return the program on a data folder of its own."""
    return Program(server_folder / "data")


def changed(folder: Path, old: str, new: str) -> Path:
    """Write the example's contract with something replaced; return its file."""
    text = CONTRACT.read_text(encoding="utf-8")
    assert old in text
    file = folder / "contract.yaml"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    return file


def test_a_contract_that_cannot_work_is_wrong_use_whenever_it_shows(
    program: Program, tmp_path: Path
) -> None:
    wrong = changed(tmp_path, "version: 1", "version: one")
    done = program.run("ingest", SAMPLE, "--contract", wrong, status=2)
    assert f"{wrong}:4: 'version' must be a whole number" in done.words
    wrong.write_bytes(b"\xff")
    done = program.run("ingest", SAMPLE, "--contract", wrong, status=2)
    assert f"{wrong}: not UTF-8" in done.words

    wrong = changed(tmp_path, "{timestamp}", "{moment}")
    done = program.run("ingest", SAMPLE, "--contract", wrong, status=2)
    assert f"{wrong}:8: {SAMPLE} has no column 'moment'" in done.words

    newer = changed(tmp_path, "version: 1", "version: 2")
    assert program.json("ingest", SAMPLE, "--contract", newer).object()["committed"] == 30
    done = program.run("ingest", SAMPLE, "--contract", CONTRACT, status=2)
    assert f"{CONTRACT}:4: version 2 is stored already" in done.words
    other = changed(tmp_path, "version: 1\nnamespace: loans", "version: 2\nnamespace: others")
    done = program.run("ingest", SAMPLE, "--contract", other, status=2)
    assert f"{other}:4: version 2 of the contract 'loan-application' is stored" in done.words


def test_of_a_file_that_breaks_off_the_summary_is_printed_and_the_error_said(
    program: Program, tmp_path: Path
) -> None:
    file = tmp_path / "log.csv.gz"
    rows = [f"{case},A_SUBMITTED,,web,2026-03-02T12:00:00Z," for case in range(5_000)]
    whole = gzip.compress("\n".join((HEADER, *rows)).encode())
    file.write_bytes(whole[: len(whole) // 2])
    done = program.json("ingest", file, "--contract", CONTRACT, "--strict", status=1)
    strict = done.object()
    assert "is the file cut off?" in done.words
    assert (strict["actions"], strict["committed"]) == (0, 0)
    done = program.json("ingest", file, "--contract", CONTRACT, status=1)
    summary = done.object()
    assert 0 < summary["rows"] == summary["committed"] < 5_000
    assert summary["rows"] == strict["rows"]
    assert f"{file}:{summary['rows'] + 2}: cannot be read on from here" in done.words
    done = program.run("ingest", file, "--contract", CONTRACT, status=1)
    assert b"duplicates" in done.out
    assert "is the file cut off?" in done.words


def test_the_first_invalid_rows_are_named_by_line_and_the_others_counted(
    program: Program, tmp_path: Path
) -> None:
    file = tmp_path / "log.csv"
    for invalid, more in ((20, []), (1_520, ["omninode-bridge: 1,500 more rows are invalid"])):
        file.write_text("\n".join((HEADER, *["no row"] * invalid)))
        done = program.json("ingest", file, "--contract", CONTRACT, status=1)
        assert done.object()["invalid"] == invalid
        said = done.words.splitlines()
        assert [line.split(": ")[1] for line in said[:20]] == [f"{file}:{n}" for n in range(2, 22)]
        assert said[20:] == more
