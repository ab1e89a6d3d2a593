"""The ids a worker has lately seen decided: a hint, bounded by count (R13).

Rule 1: it is never the decision (R3): what it names is looked up, what it lacks may be known too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from uuid import UUID

IDS_MAX: Final = 100_000
"""Of one worker: some ten seconds at full load, longer than an asker waits before it asks again."""


class RecentIds:
    """Holds the latest `ids_max / 2` ids, and at most `ids_max`. Owned by one worker."""

    def __init__(self, ids_max: int = IDS_MAX) -> None:
        """Begin empty.

        Raises:
            ValueError: `ids_max` is below 2.
        """
        if ids_max < 2:  # noqa: PLR2004 - one for each generation
            message = f"ids_max must be at least 2, not {ids_max}"
            raise ValueError(message)
        # Two generations: when the young one is full it becomes the old one, and the old one goes.
        # To let single ids go in their order costs more than the rest of it together. And it is the
        # ids' 16-byte numbers that are kept: hashing a UUID is a call in Python.
        self._generation_max = ids_max // 2
        self._young: set[int] = set()
        self._old: set[int] = set()

    def __len__(self) -> int:
        """Return how many ids are held; one that is in both generations counts twice."""
        return len(self._young) + len(self._old)

    def seen(self, ids: Collection[UUID]) -> set[UUID]:
        """Return those of `ids` that are held."""
        numbers = {action_id.int for action_id in ids}
        if self._young.isdisjoint(numbers) and self._old.isdisjoint(numbers):
            return set()
        return {each for each in ids if each.int in self._young or each.int in self._old}

    def remember(self, ids: Iterable[UUID]) -> None:
        """Hold `ids`; the oldest may have to go."""
        numbers = [action_id.int for action_id in ids]
        if len(self._young) + len(numbers) <= self._generation_max:
            self._young.update(numbers)
            return
        for number in numbers:
            if number not in self._young and len(self._young) == self._generation_max:
                self._old, self._young = self._young, set()
            self._young.add(number)
