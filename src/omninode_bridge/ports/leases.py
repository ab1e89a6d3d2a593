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

    async def take(self, partition: int, owner: UUID, member: UUID | None = None) -> bool:
        """Take the effects of a partition; return whether `owner` carries them out now.

        With a `member` they are taken apart from the partition, under a token of their own, for as
        long as that process is there. Without one `owner` is the partition's, and effects are its
        as soon as nobody has them apart. They are never taken from who is there.
        """
        ...

    async def leave(self, partition: int, owner: UUID) -> None:
        """Let the effects go that were taken apart under `owner`: they are the partition's."""
        ...
