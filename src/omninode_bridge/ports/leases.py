"""Who owns which partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta
    from uuid import UUID


class Leases(Protocol):
    """Who owns which partition, by the store's clock."""

    async def acquire(
        self, owner: UUID, name: str, lease: timedelta, partitions: Iterable[int]
    ) -> Sequence[int]:
        """Take those of `partitions` that are free or expired, or already ours; return them."""
        ...

    async def renew(self, owner: UUID, lease: timedelta) -> Sequence[int]:
        """Lengthen the leases of `owner`; return the partitions it still owns."""
        ...

    async def release(self, owner: UUID) -> None:
        """Let all partitions of `owner` go."""
        ...
