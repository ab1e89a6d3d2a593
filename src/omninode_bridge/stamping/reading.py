"""Hashes files with BLAKE3, in a few threads; what it says of a file was true of one moment.

Rule 1: a file counts as read only if its size and its time of change were the same before and
        after, and as many bytes were read. If not, it is read once more, and then given up.
Rule 2: no file's contents are held: big ones pass through in blocks.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from blake3 import blake3

from omninode_bridge.stamping.tree import Found, Missed, kind_of, missed

if TYPE_CHECKING:
    from collections.abc import Callable

    from omninode_bridge.stamping.tree import Batch

BLOCK_BYTES: Final = 1_048_576
TRIES: Final = 2

# Whatever may have taken the file's place meanwhile: a link is not followed, a pipe not waited for.
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Hashed(NamedTuple):
    """A file as it was read: path below the folder, size in bytes, BLAKE3 in hex."""

    path: str
    size: int
    file_hash: str


class Stopped(Exception):
    """The reading was stopped in the middle of a file."""


def read_batch(root: bytes, batch: Batch, stopped: Callable[[], bool]) -> list[Hashed | Missed]:
    """Return what each of `batch` turned out to be.

    Raises:
        Stopped: soon after `stopped` says so.
    """
    return [read(root, entry, stopped) if isinstance(entry, Found) else entry for entry in batch]


def read(root: bytes, found: Found, stopped: Callable[[], bool]) -> Hashed | Missed:
    """Hash one file.

    Raises:
        Stopped: soon after `stopped` says so.
    """
    full = os.path.join(root, found.raw)  # noqa: PTH118 - bytes
    for _ in range(TRIES):
        try:
            descriptor = os.open(full, _FLAGS)
        except OSError as error:
            return missed(found.raw, error)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return Missed(found.raw, "skipped", kind_of(before.st_mode))
            file_hash = _hash(descriptor, before.st_size, stopped)
            after = os.fstat(descriptor)
        except OSError as error:
            return missed(found.raw, error)
        finally:
            os.close(descriptor)
        same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if same and file_hash is not None:
            return Hashed(found.path, before.st_size, file_hash)
    return Missed(found.raw, "failed", "it changed while it was read")


def _hash(descriptor: int, size: int, stopped: Callable[[], bool]) -> str | None:
    """Return the hash of a file of `size` bytes; None when it has more or fewer by now."""
    hasher = blake3()
    read_bytes = 0
    while read_bytes <= size:
        if stopped():
            raise Stopped
        # One byte more than there should be: with none too many, the end needs no read of its own.
        wanted = min(size - read_bytes + 1, BLOCK_BYTES)
        data = os.read(descriptor, wanted)
        hasher.update(data)
        read_bytes += len(data)
        if len(data) < wanted and (not data or read_bytes >= size):
            break
    return hasher.hexdigest() if read_bytes == size else None
