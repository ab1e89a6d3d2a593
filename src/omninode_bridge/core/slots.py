"""How many of each kind may be under way in a process: a bound (R13) that several loops share."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Slots:
    """`limits` says how many of each name. For one event loop: nothing here waits."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        """Begin with all slots free."""
        self._limits = dict(limits)
        self._taken: Counter[str] = Counter()
        self._listeners: list[Callable[[], None]] = []

    def limit(self, name: str) -> int:
        """Return how many slots of `name` there are."""
        return self._limits[name]

    def room(self, name: str) -> int:
        """Return how many slots of `name` are free."""
        return self._limits[name] - self._taken[name]

    def has_room(self, name: str) -> bool:
        """Return whether a slot of `name` is free."""
        return self.room(name) > 0

    def take(self, name: str) -> bool:
        """Take a slot of `name` if one is free."""
        if not self.has_room(name):
            return False
        self._taken[name] += 1
        return True

    def give_back(self, name: str) -> None:
        """Free a slot that was taken, and tell who listens."""
        assert self._taken[name] > 0, name
        self._taken[name] -= 1
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` each time a slot becomes free."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Call `listener` no more."""
        self._listeners.remove(listener)
