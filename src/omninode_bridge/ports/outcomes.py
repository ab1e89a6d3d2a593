"""What is known of action ids: what became of them, and which may be worth a look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from uuid import UUID

    from omninode_bridge.core.commit import ActionName, Remembered


class RememberedOutcomes(Protocol):
    """What became of action ids, for who looks without holding the partition."""

    async def recall(
        self, partition: int, names: Iterable[ActionName]
    ) -> Mapping[ActionName, Remembered]:
        """Return the remembered outcomes among `names`, all of `partition`.

        An outcome that is found is final (R3). One that is not may be on its way: only the commit,
        or `LockedPartition.recall`, tells that there is none.
        """
        ...


class Hints(Protocol):
    """Which ids somebody has seen decided: saves work, decides nothing (R3).

    It may forget, lie or say nothing; it never raises and never waits for long.
    """

    async def seen(self, ids: Collection[UUID]) -> Collection[UUID]:
        """Return those of `ids` that may be worth a look."""
        ...

    def remember(self, ids: Iterable[UUID]) -> None:
        """Pass on that `ids` are decided; returns at once, whether or not anybody hears it."""
        ...
