"""A file of named statements gives each by its name, or says what is wrong with it."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """-- What stands before the first name belongs to nobody.
SELECT 'nobody';

-- name: read_one
-- $1: the key.
SELECT *
FROM one
WHERE key = $1;

-- name: forget_all
DELETE FROM one
"""


_numbers: Final = count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a package that can be imported, and never was before."""
    folder = tmp_path / f"orders_{next(_numbers)}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def statements(package: Path, text: str) -> Statements:
    """Return the statements of a file with this text."""
    (package / "orders.sql").write_text(text, encoding="utf-8")
    return Statements(package.name, "orders.sql")


def test_a_statement_is_what_stands_below_its_name_with_its_comments(package: Path) -> None:
    found = statements(package, GOOD)
    assert found["read_one"] == "-- $1: the key.\nSELECT *\nFROM one\nWHERE key = $1"
    assert found["forget_all"] == "DELETE FROM one"
    assert found.filename == "orders.sql"


def test_all_statements_come_in_the_order_of_the_file(package: Path) -> None:
    assert [name for name, _ in statements(package, GOOD).items()] == ["read_one", "forget_all"]


def test_a_file_without_names_has_no_statements(package: Path) -> None:
    assert statements(package, "SELECT 1;").items() == []


def test_a_semicolon_within_a_statement_stays(package: Path) -> None:
    found = statements(package, "-- name: two\nSELECT ';'; SELECT 'é';\n")
    assert found["two"] == "SELECT ';'; SELECT 'é'"


@pytest.mark.parametrize(
    "line", ["--name: other", "-- name: Other", "-- name:other", " -- name: other", "-- name: a-b"]
)
def test_a_line_that_is_no_name_is_part_of_the_statement(package: Path, line: str) -> None:
    found = statements(package, f"-- name: one\n{line}\nSELECT 1;")
    assert found.items() == [("one", f"{line.strip()}\nSELECT 1")]


def test_a_name_that_is_not_there_is_missed(package: Path) -> None:
    with pytest.raises(KeyError, match="read_two"):
        statements(package, GOOD)["read_two"]


def test_a_name_that_occurs_twice_is_refused(package: Path) -> None:
    with pytest.raises(ValueError, match=r"orders\.sql: a name occurs twice"):
        statements(package, GOOD + GOOD)


def test_a_file_that_is_not_there_is_missed(package: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"others\.sql"):
        Statements(package.name, "others.sql")


def test_a_package_that_is_not_there_is_missed() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        Statements("no_such_package", "orders.sql")
