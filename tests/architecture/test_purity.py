"""The core decides and never does (R1): no `async`, clock, dice, environment or I/O.

What tells different things to different processes is out as well, such as `hash` of a text.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.architecture.source import modules

if TYPE_CHECKING:
    from tests.architecture.source import Module

# A newcomer to this list has to be pure: it says the same thing in any process, at any time.
PURE = {
    "__future__",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "struct",
    "traceback",  # of the error at hand, for who reads why a reducer gave up
    "types",
    "typing",
    "uuid",
}
IMPURE_NAMES = {
    "breakpoint",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "datetime.now",
    "datetime.today",
    "datetime.utcnow",
    "date.today",
    "eval",
    "exec",
    "hash",
    "id",
    "input",
    "open",
    "print",
    "uuid.getnode",
    "uuid.uuid1",
    "uuid.uuid4",
}
IMPURE_IMPORTS = {("uuid", name) for name in ("getnode", "uuid1", "uuid4", "uuid6", "uuid7")}
ASYNC = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)

core = pytest.mark.parametrize("module", modules("core"), ids=str)


@core
def test_the_core_imports_only_what_is_pure(module: Module) -> None:
    impure = [
        f"line {line}: {name or source}"
        for line, source, name in module.imports()
        if source.partition(".")[0] not in PURE | {"omninode_bridge"}
        or (source, name) in IMPURE_IMPORTS
    ]
    assert impure == []


@core
def test_the_core_asks_no_clock_no_dice_and_no_world(module: Module) -> None:
    impure = [
        f"line {line}: {name}" for line, name in module.dotted_names() if name in IMPURE_NAMES
    ]
    assert impure == []


@core
def test_the_core_never_waits(module: Module) -> None:
    waits = [node.lineno for node in ast.walk(module.tree) if isinstance(node, ASYNC)]
    assert waits == []
