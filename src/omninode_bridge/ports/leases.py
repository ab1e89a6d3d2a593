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
        self,
        owner: UUID,
        name: str,
        lease: timedelta,
        partitions: Iterable[int],
        member: UUID | None = None,
    ) -> Sequence[int]:
        """Take those of `partitions` that are free or expired, or already ours; return them.

        `member` is who takes them, for `Members.owners`.
        """
        ...

    async def renew(self, owner: UUID, lease: timedelta) -> Sequence[int]:
        """Lengthen the leases of `owner`; return the partitions it still owns."""
        ...

    async def release(self, owner: UUID) -> None:
        """Let all partitions of `owner` go."""
        ...


class EffectClaims(Protocol):
    """Who carries out the effects of a partition: its owner, or somebody apart from it."""

    async def take(self, partition: int, owner: UUID, member: UUID, *, apart: bool) -> bool:
        """Take the effects of a partition; return whether `owner` carries them out now.

        `owner` is that of the partition or, `apart`, a token of their own. They are never taken
        from a process that is there: `member` is the one that has them then, until it leaves them.
        """
        ...

    async def leave(self, partition: int, owner: UUID) -> None:
        """Let the effects go that were taken under `owner`."""
        ...
