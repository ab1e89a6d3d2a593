"""Nodes are doors: no node knows another, the reducer does nothing, state machines hold nothing.

Each law is asked of a mutant as well, which breaks it: a law that cannot fail says nothing.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

import pytest

from tests.architecture.source import Module, modules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NODES: Final = "omninode_bridge.nodes"
OF_ALL_NODES: Final = f"{NODES}.models"

# What the reducer's door may know: what decides, what a message looks like, and how long it took.
REDUCER_KNOWS: Final = (
    "__future__",
    "collections.abc",
    "time",
    "typing",
    "omninode_bridge.core",
    OF_ALL_NODES,
)
REDUCER_KNOWS_OF_PORTS: Final = {"Clock"}
MAKES_DURABLE_OR_TELLS: Final = {
    "append",
    "commit",
    "connect",
    "enqueue",
    "execute",
    "execute_effect",
    "expect",
    "locked",
    "open",
    "persist",
    "publish",
    "send",
    "submit",
    "try_commit",
    "wait_any",
    "write",
}
MUTABLE: Final = {"dict", "list", "set", "bytearray", "deque", "defaultdict", "Counter"}

reducer = pytest.mark.parametrize("module", modules("nodes/reducer"), ids=str)


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def others_known(module: Module, own: str) -> list[str]:
    """Return what a module of the node `own` imports of other nodes."""
    return [
        f"line {line}: {source}"
        for line, source, _ in module.imports()
        if _begins(source, NODES) and not _begins(source, own) and source != OF_ALL_NODES
    ]


def foreign_to_the_reducer(module: Module) -> list[str]:
    """Return what the reducer's door imports beyond what it may know."""
    return [
        f"line {line}: {source}.{name}"
        for line, source, name in module.imports()
        if not any(_begins(source, known) for known in REDUCER_KNOWS)
        and not _begins(source, f"{NODES}.reducer")
        and not (source == "omninode_bridge.ports" and name in REDUCER_KNOWS_OF_PORTS)
    ]


def makes_durable_or_tells(module: Module) -> list[str]:
    """Return each call by which something would become durable, or be told."""
    found = []
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
                if name in MAKES_DURABLE_OR_TELLS:
                    found.append(f"line {node.lineno}: {name}()")
            case _:
                pass
    return found


def held_state(module: Module) -> list[str]:
    """Return where a module holds what changes: in attributes, in its classes, in itself.

    An attribute is set once, in `__init__`, to what was handed in, which is no container.
    """
    return sorted({*_held_outside(module), *_held_by_objects(module)})


def _held_outside(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield f"line {node.lineno}: {' '.join(node.names)} is written from within"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if "cache" in ast.unparse(decorator):
                    yield f"line {node.lineno}: {node.name} is cached"
    classes = [node for node in module.tree.body if isinstance(node, ast.ClassDef)]
    for body in (module.tree.body, *(each.body for each in classes)):
        for statement in body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and _is_mutable(statement.value):
                yield f"line {statement.lineno}: {ast.unparse(statement)}"


def _held_by_objects(module: Module) -> Iterator[str]:
    for function in ast.walk(module.tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        handed = {argument.arg: argument.annotation for argument in _arguments(function)}
        for node in ast.walk(function):
            for target in _targets(node):
                if not _is_of_self(target):
                    continue
                value = getattr(node, "value", None)
                is_handed = (
                    function.name == "__init__"
                    and isinstance(node, ast.Assign)
                    and isinstance(value, ast.Name)
                    and value.id in handed
                    and not _is_container(handed[value.id])
                )
                if not is_handed:
                    yield f"line {node.lineno}: {ast.unparse(node)}"  # type: ignore[attr-defined]


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    return [*function.args.args, *function.args.kwonlyargs]


def _targets(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            return targets
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return [target]
        case ast.NamedExpr(target=target):
            return [target]
        case _:
            return []


def _is_of_self(target: ast.expr) -> bool:
    """Whether it is `self.x`, or a part of it: `self.x[...]`, `self.x.y`."""
    while isinstance(target, ast.Attribute | ast.Subscript):
        target = target.value
        if isinstance(target, ast.Name):
            return target.id == "self"
    return False


def _is_mutable(value: ast.expr | None) -> bool:
    match value:
        case ast.Dict() | ast.List() | ast.Set() | ast.DictComp() | ast.ListComp() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in MUTABLE
        case _:
            return False


def _is_container(annotation: ast.expr | None) -> bool:
    if annotation is None:
        return False
    names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
    return bool(names & (MUTABLE | {"MutableMapping", "MutableSequence", "MutableSet"}))


# -- the laws --------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", modules("nodes"), ids=str)
def test_no_node_imports_another(module: Module) -> None:
    own = ".".join((NODES, *str(module).split("/")[1:2]))
    assert others_known(module, own) == []


@reducer
def test_the_reducer_knows_no_store_no_database_and_no_bus(module: Module) -> None:
    assert foreign_to_the_reducer(module) == []


@reducer
def test_the_reducer_makes_nothing_durable_and_tells_nobody(module: Module) -> None:
    assert makes_durable_or_tells(module) == []


@pytest.mark.parametrize(
    "module", modules("services/fsm_state_manager.py", "core/fsm_workflow.py", "nodes"), ids=str
)
def test_no_state_of_a_workflow_is_held_in_memory(module: Module) -> None:
    assert held_state(module) == []


# -- the mutants -----------------------------------------------------------------------------------


@pytest.fixture
def mutant(tmp_path: Path, request: pytest.FixtureRequest) -> Module:
    """Give a module whose text is the test's parameter."""
    path = tmp_path / "mutant.py"
    path.write_text(request.param, encoding="utf-8")
    return Module(path)


@pytest.mark.parametrize(
    "mutant",
    ["from omninode_bridge.nodes.reducer.v1_0_0.node import X", "import omninode_bridge.nodes"],
    indirect=True,
)
def test_a_node_that_imports_another_is_found(mutant: Module) -> None:
    assert others_known(mutant, f"{NODES}.orchestrator")


@pytest.mark.parametrize(
    "mutant",
    [
        "import asyncpg",
        "from omninode_bridge.infrastructure.event_bus import MemoryEventBus",
        "from omninode_bridge.infrastructure.postgres.database import Database",
        "from omninode_bridge.services.canonical_store import CanonicalStoreService",
        "from omninode_bridge.ports import EventBus",
        "def process():\n    from omninode_bridge import ports",
        "import socket",
    ],
    indirect=True,
)
def test_a_reducer_that_knows_too_much_is_found(mutant: Module) -> None:
    assert foreign_to_the_reducer(mutant)


@pytest.mark.parametrize(
    "mutant",
    [
        "async def process(self):\n    await self._bus.publish('topic', 1)",
        "async def process(self):\n    await self._store.try_commit('key', 0, {})",
        "async def process(self):\n    await persist({})",
        "def process():\n    open('state.json')",
    ],
    indirect=True,
)
def test_a_reducer_that_does_something_is_found(mutant: Module) -> None:
    assert makes_durable_or_tells(mutant)


@pytest.mark.parametrize(
    "mutant",
    [
        "class M:\n    def __init__(self):\n        self._states = {}",
        "class M:\n    def __init__(self):\n        self._states: dict[str, str] = dict()",
        "class M:\n    def __init__(self, states: dict[str, str]):\n        self._states = states",
        "class M:\n    def go(self, state):\n        self._state = state",
        "class M:\n    def go(self, key, state):\n        self._states[key] = state",
        "class M:\n    def go(self, state):\n        self.cache.state = state",
        "class M:\n    def go(self):\n        self._count += 1",
        "class M:\n    def go(self, key):\n        del self._states[key]",
        "class M:\n    states = {}",
        "STATES: Final = {}",
        "HISTORY = list()",
        "def go():\n    global state\n    state = 1",
        "@functools.lru_cache\ndef state_of(workflow_id):\n    return 1",
    ],
    indirect=True,
)
def test_a_manager_that_remembers_is_found(mutant: Module) -> None:
    assert held_state(mutant)


@pytest.mark.parametrize(
    "mutant",
    [
        "class M:\n    def __init__(self, store: Store, *, bus):\n        self._bus = bus",
        "def go():\n    states = {}\n    states['a'] = 1\n    return states",
        "PAGE: Final = 500",
    ],
    indirect=True,
)
def test_who_holds_nothing_is_not_accused(mutant: Module) -> None:
    assert held_state(mutant) == []
