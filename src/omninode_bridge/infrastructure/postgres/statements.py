"""Named SQL statements from `.sql` files: the only way SQL reaches the server.

A file holds statements that each begin with a line `-- name: <name>`; the comment lines that
follow say what its parameters are and why it is right.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

_NAME: Final = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)


class Statements:
    """The statements of one file, by name."""

    def __init__(self, package: str, filename: str) -> None:
        """Read `filename` of `package`.

        Raises:
            ValueError: when a name occurs twice.
        """
        self.filename = filename
        text = (files(package) / filename).read_text(encoding="utf-8")
        _, *parts = _NAME.split(text)
        names, bodies = parts[::2], parts[1::2]
        if len(set(names)) != len(names):
            message = f"{filename}: a name occurs twice"
            raise ValueError(message)
        self._statements = {
            name: body.strip().removesuffix(";") for name, body in zip(names, bodies, strict=True)
        }

    def __getitem__(self, name: str) -> str:
        """Return the statement called `name`; KeyError when there is none."""
        return self._statements[name]

    def items(self) -> list[tuple[str, str]]:
        """Return all names and statements."""
        return list(self._statements.items())
