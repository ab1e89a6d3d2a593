"""Every named statement fits the migrated database, says what its parameters are, and is used."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import asyncpg
import pytest

from omninode_bridge.infrastructure.postgres.statements import Statements
from tests.architecture.source import PACKAGE, Module, modules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

FILES: Final = sorted(PACKAGE.rglob("*.sql"))
PARAMETER: Final = re.compile(r"\$\d+")
COMMENT: Final = re.compile(r"^--.*$", re.MULTILINE)


@dataclass(frozen=True)
class Statement:
    """A statement of a file of the package."""

    path: Path
    name: str
    text: str

    def __str__(self) -> str:
        """Name it by its file and its name."""
        return f"{self.path.relative_to(PACKAGE).as_posix()}: {self.name}"


def dotted(path: Path) -> str:
    """Return the name of the module at `path`, or of the package that is the folder there."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts)


def statements() -> Iterator[Statement]:
    for path in FILES:
        for name, text in Statements(dotted(path.parent), path.name).items():
            yield Statement(path, name, text)


STATEMENTS: Final = list(statements())
every_statement = pytest.mark.parametrize("statement", STATEMENTS, ids=str)


@cache
def uses() -> set[tuple[str, str]]:
    """Return each `SQL["name"]` of the package: the module that `SQL` is of, and the name."""
    found = set()
    for module in modules():
        owner = _owner_of_sql(module)
        for node in ast.walk(module.tree):
            match node:
                case ast.Subscript(value=ast.Name(id="SQL"), slice=ast.Constant(value=str(name))):
                    found.add((owner, name))
                case ast.Subscript(value=ast.Name(id="SQL")):
                    pytest.fail(f"{module}, line {node.lineno}: which statement is this?")
                case _:
                    pass
    return found


def _owner_of_sql(module: Module) -> str:
    imported = [source for _, source, name in module.imports() if name == "SQL"]
    return imported[0] if imported else dotted(module.path)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection to a migrated database, in the middle of a rebuild and a repartition."""
    connection = await asyncpg.connect(database_url)
    rebuild = Statements("omninode_bridge.services", "projection_rebuild.sql")
    await connection.execute(rebuild["make_generation"])
    async with connection.transaction():  # what is temporary lasts as long as it
        repartition = Statements("omninode_bridge.services", "repartition.sql")
        for name, text in repartition.items():
            if name.startswith("make_") and not PARAMETER.search(text):
                await connection.execute(text)
        await connection.execute(repartition["place_intents"])
        yield connection
    await connection.close()


async def test_every_statement_fits_the_migrated_database(connection: asyncpg.Connection) -> None:
    refused = []
    for statement in STATEMENTS:
        try:
            async with connection.transaction():
                await connection.prepare(statement.text)
        except asyncpg.PostgresError as error:
            refused.append(f"{statement}: {error}")
    assert refused == []


@every_statement
def test_a_statement_is_used(statement: Statement) -> None:
    assert (dotted(statement.path), statement.name) in uses()


def test_what_is_used_is_there() -> None:
    assert uses() <= {(dotted(statement.path), statement.name) for statement in STATEMENTS}


@every_statement
def test_a_statement_says_what_its_parameters_are(statement: Statement) -> None:
    comments = " ".join(COMMENT.findall(statement.text))
    code = COMMENT.sub("", statement.text)
    silent = set(PARAMETER.findall(code)) - set(PARAMETER.findall(comments))
    assert silent == set() or "with the function" in comments
