"""The source code as the architecture tests read it: modules, their trees and what they import."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY: Final = Path(__file__).parents[2]
PACKAGE: Final = REPOSITORY / "src" / "omninode_bridge"


@dataclass(frozen=True)
class Module:
    """A Python file of the package."""

    path: Path

    def __str__(self) -> str:
        """Name it by its path within the package."""
        return self.path.relative_to(PACKAGE).as_posix()

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.path.read_text(encoding="utf-8"), filename=str(self.path))

    def imports(self) -> Iterator[tuple[int, str, str | None]]:
        """Yield each import, wherever it stands: line, module, and the name it takes, if any."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names=names):
                    yield from ((node.lineno, alias.name, None) for alias in names)
                case ast.ImportFrom(module=str(module), names=names, level=0):
                    yield from ((node.lineno, module, alias.name) for alias in names)
                case ast.ImportFrom():
                    # ruff's TID252 bans these; whatever slips by is an arrow to nowhere.
                    yield node.lineno, ".", None
                case _:
                    pass

    def dotted_names(self) -> Iterator[tuple[int, str]]:
        """Yield each name the code speaks of, such as `open` or `os.environ`, with its line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name | ast.Attribute) and (name := _dotted(node)):
                yield node.lineno, name


def modules(*places: str) -> list[Module]:
    """Return the modules at these places in the package (files or folders), all without any.

    A place that is not there has moved: a law that is asked of nobody would be kept by all.
    """
    found: list[Path] = []
    for place in places or ("",):
        path = PACKAGE / place
        assert path.exists(), f"nothing stands at {path}: where has it gone?"
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [Module(path) for path in found]


def _dotted(node: ast.expr) -> str | None:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attribute) if prefix := _dotted(value):
            return f"{prefix}.{attribute}"
        case _:
            return None
