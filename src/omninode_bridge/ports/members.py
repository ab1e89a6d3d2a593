"""Which processes share the partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from uuid import UUID

    from omninode_bridge.core.sharing import Member


class Members(Protocol):
    """Which processes are there, by the store's clock. It decides nothing: leases do (R12)."""

    async def beat(self, member: Member, lasts: timedelta) -> Sequence[Member]:
        """Say that `member` is there for `lasts` from now; return all that are, eldest first.

        Who had not been seen in time joins anew, as the youngest.
        """
        ...

    async def leave(self, member: UUID) -> None:
        """Say that it is there no more."""
        ...

    async def owners(self) -> Mapping[int, UUID]:
        """Return by which member each partition is held whose lease is valid."""
        ...

    async def free(self) -> Sequence[int]:
        """Return the partitions without an owner or a valid lease that nobody has locked."""
        ...
