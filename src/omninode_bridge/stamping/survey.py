"""Looks at every file of a folder: one walker, a few reading threads, and who takes what they find.

Rule 1: bounded: the walker waits when it is far ahead, and no more batches are taken at once than
        there are takers.
Rule 2: what cannot be stamped is reported by name, counted, and ends nothing.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from omninode_bridge.stamping.keys import path_bytes_max
from omninode_bridge.stamping.reading import Hashed, read_batch
from omninode_bridge.stamping.tree import Found, Missed, batches, folder_id, printable, walk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from omninode_bridge.stamping.tree import Batch, Kind

THREADS_MAX: Final = 4
TAKERS: Final = 12
AHEAD_MAX: Final = 64
TELL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Problem:
    """A path that was not stamped: `skipped` for what it is, or `failed`. `name` is printable."""

    name: str
    kind: Kind
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. While it is `walking`, more files may be found."""

    files_found: int
    files_done: int
    bytes_done: int
    walking: bool


def ignore_problem(_: Problem) -> None:
    """Report nothing."""


def ignore_progress(_: Progress) -> None:
    """Show nothing."""


class Survey:
    """One look at a folder. `each` does it; the counts are complete when it returns."""

    def __init__(
        self,
        folder: Path,
        namespace: str,
        *,
        exclude: frozenset[str],
        left_out: Path | None,
        report: Callable[[Problem], None],
        progress: Callable[[Progress], None],
    ) -> None:
        """Begin to look at nothing yet.

        Raises:
            FileNotFoundError, NotADirectoryError: `folder` is no folder.
        """
        if not folder.is_dir():
            folder.stat()
            raise NotADirectoryError(f"{folder} is not a folder")
        self.files = self.bytes = self.skipped = self.failed = 0
        self._root = os.fsencode(folder)
        names = frozenset(os.fsencode(name) for name in exclude)
        own = None if left_out is None else folder_id(left_out)
        self._entries = walk(self._root, names, path_bytes_max(namespace), own)
        self._report = report
        self._progress = progress
        self._unknown: set[str] = set()
        self._found = self._done = self._bytes_done = 0
        self._walking = True
        self._told = monotonic()
        self._stopped = False

    async def each(self, take: Callable[[list[Hashed]], Awaitable[None]]) -> None:
        """Hand all files that could be read to `take`, in batches, several at once.

        Raises:
            Whatever `take` raises first; the others are cancelled then.
        """
        queue: asyncio.Queue[Batch | None] = asyncio.Queue(AHEAD_MAX)
        pool = ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1), "stamping")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._walk(pool, queue))
                for _ in range(TAKERS):
                    group.create_task(self._take(pool, queue, take))
        except BaseExceptionGroup as errors:
            # What went wrong first; the askers of one outage all say the same.
            raise errors.exceptions[0] from errors
        finally:
            self._stopped = True
            pool.shutdown(cancel_futures=True)
        self._progress(self._now())

    def could_not_read(self, path: str) -> bool:
        """Say whether `path` itself failed."""
        return path in self._unknown

    def is_unknown(self, path: str) -> bool:
        """Say whether nothing is known of `path`: it, or a folder above it, could not be read."""
        if path in self._unknown or "" in self._unknown:
            return True
        ends = (end for end, letter in enumerate(path) if letter == "/")
        return any(path[:end] in self._unknown for end in ends)

    def fail(self, path: str, reason: str) -> None:
        """Report a file that could be read, but not stamped."""
        self.failed += 1
        self._report(Problem(printable(path.encode()), "failed", reason))

    async def _walk(self, pool: ThreadPoolExecutor, queue: asyncio.Queue[Batch | None]) -> None:
        loop = asyncio.get_running_loop()
        source: Iterator[Batch] = batches(self._entries)
        while (batch := await loop.run_in_executor(pool, next, source, None)) is not None:
            self._found += sum(isinstance(entry, Found) for entry in batch)
            await queue.put(batch)
        self._walking = False
        for _ in range(TAKERS):
            await queue.put(None)

    async def _take(
        self,
        pool: ThreadPoolExecutor,
        queue: asyncio.Queue[Batch | None],
        take: Callable[[list[Hashed]], Awaitable[None]],
    ) -> None:
        loop = asyncio.get_running_loop()
        while (batch := await queue.get()) is not None:
            entries = await loop.run_in_executor(
                pool, read_batch, self._root, batch, lambda: self._stopped
            )
            read: list[Hashed] = []
            for entry in entries:
                if isinstance(entry, Hashed):
                    read.append(entry)
                else:
                    self._missed(entry)
            self.files += len(read)
            self.bytes += sum(file.size for file in read)
            if read:
                await take(read)
            self._tell(batch, read)

    def _missed(self, entry: Missed) -> None:
        if entry.kind == "skipped":
            self.skipped += 1
        else:
            self.failed += 1
            self._unknown.add(entry.raw.decode("utf-8", "surrogateescape"))
        self._report(Problem(printable(entry.raw), entry.kind, entry.reason))

    def _tell(self, batch: Batch, read: list[Hashed]) -> None:
        self._done += sum(isinstance(entry, Found) for entry in batch)
        self._bytes_done += sum(file.size for file in read)
        if monotonic() - self._told >= TELL_S:
            self._told = monotonic()
            self._progress(self._now())

    def _now(self) -> Progress:
        return Progress(self._found, self._done, self._bytes_done, self._walking)
