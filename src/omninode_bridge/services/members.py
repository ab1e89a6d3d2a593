"""Which processes share the partitions: a row each, good for as long as it last said.

Rule 1: it decides nothing. Two processes that see different members take or let go too much for one
        beat; who may commit is decided by the token of the lease (R12).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omninode_bridge.core.sharing import Member
from omninode_bridge.infrastructure.postgres.database import plain_uuid
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "members.sql")


class MemberService:
    """Members in `event_log_members`. Implements the port `Members`."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database

    async def beat(self, member: Member, lasts: timedelta) -> list[Member]:
        """Say that `member` is there for `lasts` from now; return all that are, eldest first."""
        told = (member.member, member.name, member.app, sorted(member.roles), member.over_bus)
        await self._database.execute(SQL["beat"], *told, lasts)
        return [
            Member(
                plain_uuid(row["member"]),
                row["name"],
                row["app"],
                frozenset(row["roles"]),
                row["over_bus"],
            )
            for row in await self._database.fetch(SQL["members"])
        ]

    async def leave(self, member: UUID) -> None:
        """Say that it is there no more."""
        await self._database.execute(SQL["leave"], member)

    async def owners(self) -> dict[int, UUID]:
        """Return by which member each partition is held whose lease is valid."""
        rows = await self._database.fetch(SQL["owners"])
        return {row["partition"]: plain_uuid(row["owner_member"]) for row in rows}

    async def free(self) -> list[int]:
        """Return the partitions without an owner or a valid lease that nobody has locked."""
        rows = await self._database.fetch(SQL["free"])
        return [row["partition"] for row in rows]

    async def forget_all(self) -> None:
        """Forget everybody: only for one who knows that no other process lives here."""
        await self._database.execute(SQL["forget"])
