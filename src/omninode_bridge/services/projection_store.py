"""Reads of the projection that see at least a given version (R8).

Rule 1: waiters share one wake-up. A materializer in this process says which versions and tags it
        has written; for those of other processes one task asks for all waiting keys in one query.
Rule 2: after `max_wait_ms` the canonical store answers, with equal content.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import orjson

from omninode_bridge.core.errors import DatabaseUnavailable, VersionNotReached
from omninode_bridge.infrastructure.entities import ModelWorkflowProjection
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "projection_store.sql")

POLL_MS: Final = 20.0
TAG_POLL_S: Final = 0.25
"""Who waits for a tag waits for something that takes its time."""

WAITERS_MAX: Final = 100_000


class ProjectionStoreService:
    """Reads `workflow_projection`, with the canonical store to fall back on."""

    def __init__(self, database: Database, *, poll_ms: float = POLL_MS) -> None:
        """Read through `database`, at most every `poll_ms` for all who wait."""
        self._database = database
        self._poll_s = poll_ms / 1000
        self._waiters: dict[str, list[tuple[int, asyncio.Future[None]]]] = {}
        self._waiting = 0
        self._tag_waiters: dict[str, list[tuple[Collection[str], asyncio.Future[None]]]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._tag_poller: asyncio.Task[None] | None = None

    async def get_state(
        self,
        workflow_key: str,
        required_version: int | None = None,
        max_wait_ms: float = 100,
    ) -> ModelWorkflowProjection | None:
        """Return the projection of `workflow_key` at `required_version` or above (R8).

        None: the key was never seen, and no version was required. Without a required version the
        projection may be behind, and that of a new key may not be there yet.

        Raises:
            VersionNotReached: not even the canonical store has that version.
        """
        row = await self._read(workflow_key)
        if required_version is None or (row is not None and row.version >= required_version):
            return row
        if max_wait_ms > 0 and await self._reached(
            workflow_key, required_version, max_wait_ms / 1000
        ):
            row = await self._read(workflow_key)
            if row is not None and row.version >= required_version:
                return row
        return await self._from_canonical(workflow_key, required_version)

    async def get_version(self, workflow_key: str) -> int:
        """Return the version that the projection of `workflow_key` shows; 0 when there is none."""
        rows = await self._database.fetch(SQL["versions"], [workflow_key])
        return rows[0]["version"] if rows else 0

    async def list(
        self,
        *,
        namespace: str | None = None,
        tag: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[ModelWorkflowProjection]:
        """Return a page of projections in order of their keys, those above `after`."""
        rows = await self._database.fetch(
            SQL["list_by_namespace_and_tag"], namespace, tag, after, limit
        )
        return [_projection(row) for row in rows]

    async def list_runs(
        self, *, tag: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[ModelWorkflowProjection]:
        """Return a page of the projections of runs in order of their keys, those above `after`."""
        return [
            _projection(row)
            for row in await self._database.fetch(SQL["list_runs"], tag, after, limit)
        ]

    def advanced(self, rows: Iterable[tuple[str, int, str]]) -> None:
        """Wake those who wait for these keys at these versions, or below, or for these tags."""
        if not self._waiters and not self._tag_waiters:
            return
        for workflow_key, version, tag in rows:
            for required, future in self._waiters.get(workflow_key, ()):
                if required <= version and not future.done():
                    future.set_result(None)
            for tags, future in self._tag_waiters.get(workflow_key, ()):
                if tag in tags and not future.done():
                    future.set_result(None)

    @contextmanager
    def reaching(self, workflow_key: str, tags: Collection[str]) -> Iterator[asyncio.Future[None]]:
        """Yield a future that is done when the projection of `workflow_key` has one of `tags`.

        It sees what is projected in this process from now on, and a little later what others do,
        what was there before included. Beyond the bound on waiters it is never done.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._waiting >= WAITERS_MAX:
            yield future
            return
        waiter = (tags, future)
        waiters = self._tag_waiters.setdefault(workflow_key, [])
        waiters.append(waiter)
        self._waiting += 1
        if self._tag_poller is None or self._tag_poller.done():
            self._tag_poller = asyncio.create_task(self._poll_tags(), name="projection tags")
        try:
            yield future
        finally:
            self._waiting -= 1
            waiters.remove(waiter)
            if not waiters and self._tag_waiters.get(workflow_key) is waiters:
                del self._tag_waiters[workflow_key]

    async def close(self) -> None:
        """Stop asking on behalf of waiters."""
        pollers = [each for each in (self._poller, self._tag_poller) if each is not None]
        for poller in pollers:
            poller.cancel()
        await asyncio.gather(*pollers, return_exceptions=True)

    async def _reached(self, workflow_key: str, required: int, wait_s: float) -> bool:
        if self._waiting >= WAITERS_MAX:
            return False
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (required, future)
        waiters = self._waiters.setdefault(workflow_key, [])
        waiters.append(waiter)
        self._waiting += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="projection waiters")
        try:
            async with asyncio.timeout(wait_s):
                await future
        except TimeoutError:
            return False
        else:
            return True
        finally:
            self._waiting -= 1
            waiters.remove(waiter)
            if not waiters and self._waiters.get(workflow_key) is waiters:
                del self._waiters[workflow_key]

    async def _poll(self) -> None:
        """Ask for all waiting keys at once, as long as anyone waits.

        The first question comes at once: the version may have been written between a waiter's read
        and its registration.
        """
        while self._waiters:
            await self._look([*self._waiters])
            await asyncio.sleep(self._poll_s)

    async def _poll_tags(self) -> None:
        """Ask for all keys that are waited for by tag, as long as anyone waits."""
        while self._tag_waiters:
            await asyncio.sleep(TAG_POLL_S)
            await self._look([*self._tag_waiters])

    async def _look(self, keys: Sequence[str]) -> None:
        try:
            rows = await self._database.fetch(SQL["versions"], keys)
        except DatabaseUnavailable:
            return  # the waiters run into their bound, and what they do then reports the trouble
        self.advanced((row["workflow_key"], row["version"], row["tag"]) for row in rows)

    async def _read(self, workflow_key: str) -> ModelWorkflowProjection | None:
        row = await self._database.fetchrow(SQL["read"], workflow_key)
        return None if row is None else _projection(row)

    async def _from_canonical(self, workflow_key: str, required: int) -> ModelWorkflowProjection:
        row = await self._database.fetchrow(SQL["read_canonical"], workflow_key)
        version = 0 if row is None else row["version"]
        if row is None or version < required:
            raise VersionNotReached(workflow_key, required, version)
        return _projection(row)


def _projection(row: Any) -> ModelWorkflowProjection:  # noqa: ANN401 - asyncpg ships no types
    return ModelWorkflowProjection(
        workflow_key=row["workflow_key"],
        version=row["version"],
        tag=row["tag"],
        last_action=row["last_action"],
        namespace=row["namespace"],
        updated_at=row["updated_at"],
        indices=None if row["indices"] is None else orjson.loads(row["indices"]),
        extras=None if row["extras"] is None else orjson.loads(row["extras"]),
    )
