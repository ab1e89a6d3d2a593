"""What can be wrong with a file that a user hands in.

    BridgeError
    └── InvalidFile          a file that cannot be read, or not to its end

One row that is wrong is no error but an `InvalidRow`: it is reported and skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omninode_bridge import BridgeError

if TYPE_CHECKING:
    from omninode_bridge.ingest.summary import Summary


class InvalidFile(BridgeError):
    """A file that cannot be read as CSV, or not to its end. `line` is None for the whole file.

    The rows before the line are as good as any: they were taken. `summary` is what `ingest` did
    with them; None when it did not come to the first row.
    """

    summary: Summary | None = None

    def __init__(self, file: str, line: int | None, detail: str) -> None:
        """`line` counts from 1."""
        super().__init__(f"{file}: {detail}" if line is None else f"{file}:{line}: {detail}")
        self.file = file
        self.line = line
        self.detail = detail


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that was skipped. `line` is the line on which it starts, counted from 1."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        """Say it as compilers do."""
        return f"{self.file}:{self.line}: {self.reason}"
