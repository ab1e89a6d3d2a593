"""SQL lives in .sql files beside its store, each statement under a name."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tests.architecture.source import PACKAGE, modules

if TYPE_CHECKING:
    from pathlib import Path

    from tests.architecture.source import Module

STATEMENT = re.compile(
    r"\s*(ALTER|ANALYZE|BEGIN|COMMIT|COPY|CREATE|DELETE|DROP|GRANT|INSERT|LISTEN|LOCK|NOTIFY"
    r"|ROLLBACK|SELECT|SET|SHOW|TRUNCATE|UNLISTEN|UPDATE|VACUUM|WITH)\s"
)
ALLOWED = {
    # Said to a server that is being made, before anybody can connect; a name is not a parameter.
    ("infrastructure/postgres/embedded/cluster.py", "CREATE DATABASE "),
}


@pytest.mark.parametrize("module", modules(), ids=str)
def test_no_sql_stands_in_a_python_string(module: Module) -> None:
    statements = [
        f"line {node.lineno}: {node.value!r}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and STATEMENT.match(node.value)
        and (str(module), node.value) not in ALLOWED
    ]
    assert statements == []


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.sql")), ids=lambda path: path.relative_to(PACKAGE).as_posix()
)
def test_a_file_of_statements_stands_beside_its_store(path: Path) -> None:
    assert path.with_suffix(".py").exists()


def test_a_migration_can_be_taken_back() -> None:
    folder = PACKAGE.parents[1] / "migrations"
    up = {path.stem for path in folder.glob("*.sql") if not path.stem.endswith(".down")}
    down = {path.stem.removesuffix(".down") for path in folder.glob("*.down.sql")}
    assert up == down
