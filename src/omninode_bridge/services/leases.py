"""Who owns which partition: a lease on its row, by the database's clock, with a random token.

Rule 1: the token decides, not the time. An owner whose lease has run out, but whom nobody has
        followed, is still the owner; one who has been followed can make nothing durable (R12).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta
    from uuid import UUID

    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "leases.sql")


class LeaseService:
    """Leases in `event_log_partitions`. Implements the port `Leases`."""

    def __init__(
        self, database: Database, partitions: int, *, incarnation: UUID | None = None
    ) -> None:
        """`partitions` is how many this database has in this `incarnation` of its log."""
        self._database = database
        self._all = range(partitions)
        self._incarnation = incarnation
        self._taken: dict[UUID, set[int]] = {}

    async def acquire(
        self,
        owner: UUID,
        name: str,
        lease: timedelta,
        partitions: Iterable[int],
        member: UUID | None = None,
    ) -> list[int]:
        """Take those of `partitions` that are free or expired, or already ours; return them.

        Raises:
            PartitionsChanged: there is another number of partitions now.
        """
        taken: list[int] = []
        await self._database.fetchval(SQL["require"], self._incarnation)
        for partition in partitions:
            ours = await self._database.fetchval(
                SQL["acquire"], owner, name, lease, partition, member, self._incarnation
            )
            if ours is not None:
                taken.append(partition)
                self._taken.setdefault(owner, set()).add(partition)
        return taken

    async def renew(self, owner: UUID, lease: timedelta) -> list[int]:
        """Lengthen the leases of `owner`; return the partitions it still owns."""
        return [
            partition
            for partition in self._candidates(owner)
            if await self._database.fetchval(SQL["renew"], owner, lease, partition) is not None
        ]

    async def release(self, owner: UUID) -> None:
        """Let all partitions of `owner` go."""
        for partition in self._candidates(owner):
            await self._database.execute(SQL["release"], owner, partition)
        self._taken.pop(owner, None)

    def _candidates(self, owner: UUID) -> list[int]:
        """Return the partitions that `owner` took through us, or for an unknown one all."""
        return sorted(self._taken.get(owner, self._all))

    async def break_all(self) -> None:
        """Free every partition: only for one who knows that no other process lives here."""
        for partition in self._all:
            await self._database.execute(SQL["break"], partition)

    async def holders(self) -> list[tuple[int, str | None, bool]]:
        """Return for each partition its number, its owner's name, and whether the lease is over."""
        rows = await self._database.fetch(SQL["holders"])
        return [(row["partition"], row["owner_name"], bool(row["expired"])) for row in rows]


class EffectClaimService:
    """Claims in `event_log_partitions`, too. Implements the port `EffectClaims`."""

    def __init__(self, database: Database, *, incarnation: UUID | None = None) -> None:
        """`incarnation` is of the log by which partitions are counted; None: unchecked."""
        self._database = database
        self._incarnation = incarnation

    async def take(self, partition: int, owner: UUID, member: UUID, *, apart: bool) -> bool:
        """Take the effects of a partition; return whether `owner` carries them out now.

        Raises:
            PartitionsChanged: there is another number of partitions now.
        """
        place = (owner, member, partition, self._incarnation)
        statement = SQL["take_effects_apart"] if apart else SQL["take_effects"]
        return await self._database.fetchval(statement, *place) is not None

    async def leave(self, partition: int, owner: UUID) -> None:
        """Let the effects go that were taken apart under `owner`."""
        await self._database.execute(SQL["leave_effects"], owner, partition)
