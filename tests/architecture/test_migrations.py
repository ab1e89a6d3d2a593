"""The numbered SQL files, Alembic's versions of them, and their page say the same."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from omninode_bridge.infrastructure.postgres.migrations import Migration, known_migrations
from tests.architecture.source import REPOSITORY, modules

FIRST: Final = 6  # 001 to 005 belong to the system before this one

every_migration = pytest.mark.parametrize(
    "migration", known_migrations(), ids=lambda migration: migration.name
)


def test_the_numbers_have_no_gaps() -> None:
    numbers = [int(migration.revision) for migration in known_migrations()]
    assert numbers == list(range(FIRST, FIRST + len(numbers)))


def test_alembic_knows_every_step_by_the_name_of_its_file() -> None:
    scripts = ScriptDirectory.from_config(Config(REPOSITORY / "alembic.ini"))
    revisions = list(reversed(list(scripts.walk_revisions())))
    assert [script.path.rpartition("/")[2] for script in revisions] == [
        f"{migration.name}.py" for migration in known_migrations()
    ]
    assert revisions[0].down_revision is None
    assert [(after.down_revision, after.revision) for after in revisions[1:]] == [
        (before.revision, after.revision) for before, after in pairwise(known_migrations())
    ]


@every_migration
def test_a_file_leaves_the_transaction_to_who_runs_it(migration: Migration) -> None:
    """A `COMMIT` would part the step from its mark; a function's `BEGIN` has no semicolon."""
    control = re.compile(
        r"^\s*(BEGIN|START TRANSACTION|COMMIT|END|ROLLBACK|ABORT)\b[^;]*;|\bCONCURRENTLY\b",
        re.IGNORECASE | re.MULTILINE,
    )
    outside_functions = re.sub(r"\$\$.*?\$\$", "", migration.up(), flags=re.DOTALL)
    assert control.findall(outside_functions) == []
    assert control.findall(migration.down()) == []


@every_migration
def test_a_way_back_hides_no_loss_of_rows(migration: Migration) -> None:
    """What is dropped is counted before; what is deleted would not be."""
    assert re.findall(r"\b(DELETE|TRUNCATE)\b", migration.down(), re.IGNORECASE) == []


@every_migration
def test_the_page_of_the_migrations_names_every_file(migration: Migration) -> None:
    page = (REPOSITORY / "migrations" / "README.md").read_text(encoding="utf-8")
    assert f"`{migration.name}.sql`" in page


def test_alembic_is_imported_by_its_own_environment_only() -> None:
    """It costs 0.3 s, which no other command has to pay."""
    heavy = {"alembic", "sqlalchemy"}
    environment = "infrastructure/postgres/alembic_environment.py"
    importers = {
        str(module)
        for module in modules()
        for _, source, name in module.imports()
        if source.partition(".")[0] in heavy or name == "alembic_environment"
    }
    assert importers == {environment}
