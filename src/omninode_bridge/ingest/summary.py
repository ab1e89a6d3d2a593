"""What is told of a run: how far it has come, and what it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come: bytes of the file as it is on the disk, and rows read."""

    bytes_read: int
    bytes_total: int
    rows: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did. `rows` counts all rows, `actions` those that became one, `keys` theirs.

    Of the actions some were `committed`, some are `duplicates` of what had been decided before
    (rejected ones among them), some were given up (`rejected`). `invalid` rows were skipped.
    """

    rows: int
    actions: int
    keys: int
    committed: int
    duplicates: int
    rejected: int
    invalid: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)
