"""`ingest` as a user runs it: what it prints, what it says, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.programs import Program

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
CONTRACT: Final = EXAMPLES / "loan-application.yaml"
SAMPLE: Final = EXAMPLES / "loans-sample.csv"


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
