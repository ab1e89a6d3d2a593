"""Walks a folder: which regular files there are, in one order, and what is none and why.

Names are bytes here, as the file system has them: which of them are text is decided file by file,
whatever the locale of the machine.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind = Literal["skipped", "failed"]

_DATA_FOLDER: Final = frozenset({b"omninode_bridge.txt", b"users.lock"})
"""What tells the folder of an embedded database: it changes while it is read."""

BATCH_FILES_MAX: Final = 128
BATCH_BYTES_MAX: Final = 8 * 1_048_576

_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


class Found(NamedTuple):
    """A regular file: its path below the folder, as bytes and as text, and its size in bytes."""

    raw: bytes
    path: str
    size: int


class Missed(NamedTuple):
    """A path that cannot be stamped. Of what failed, nothing is known, nor of what is below it."""

    raw: bytes
    kind: Kind
    reason: str


Batch = list[Found | Missed]
FolderId = tuple[int, int]
"""Device and number: what a folder is known by, whatever path leads to it."""


def folder_id(path: str | os.PathLike[str]) -> FolderId | None:
    """Return what a folder is known by; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - the like of which the walk sees
    except OSError:
        return None
    return status.st_dev, status.st_ino


def walk(
    root: bytes, exclude: frozenset[bytes], path_bytes_max: int, left_out: FolderId | None = None
) -> Iterator[Found | Missed]:
    """Yield what is below `root`: depth first, each folder's entries in the order of their bytes.

    Entries named as one of `exclude` are left out, folders with all that is in them; so is the
    folder `left_out`. Symbolic links are not followed. Nothing is held but the listings of the
    folders that lead to where we are.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder. Below it, nothing is raised.
    """
    pending = [b""]
    while pending:
        below = pending.pop()
        try:
            with os.scandir(os.path.join(root, below)) as listing:  # noqa: PTH118 - bytes
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if not below and isinstance(error, FileNotFoundError | NotADirectoryError):
                raise
            yield missed(below, error)
            continue
        if {entry.name for entry in entries} >= _DATA_FOLDER:
            yield Missed(below, "skipped", "a data folder of omninode_bridge")
            continue
        folders = []
        for entry in entries:
            if entry.name in exclude:
                continue
            raw = os.path.join(below, entry.name)  # noqa: PTH118
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                yield missed(raw, error)
                continue
            if stat.S_ISDIR(status.st_mode):
                if (status.st_dev, status.st_ino) != left_out:
                    folders.append(raw)
            else:
                yield _looked_at(raw, status, path_bytes_max)
        pending.extend(reversed(folders))


def _looked_at(raw: bytes, status: os.stat_result, path_bytes_max: int) -> Found | Missed:
    if not stat.S_ISREG(status.st_mode):
        return Missed(raw, "skipped", kind_of(status.st_mode))
    try:
        path = raw.decode()
    except UnicodeDecodeError:
        return Missed(raw, "failed", "its name is not UTF-8")
    if len(raw) > path_bytes_max:
        reason = f"its path has {len(raw)} bytes; {path_bytes_max} fit into a key"
        return Missed(raw, "failed", reason)
    return Found(raw, path, status.st_size)


def batches(entries: Iterable[Found | Missed]) -> Iterator[Batch]:
    """Yield `entries` in batches that are worth a way to another thread, and not too much for one.

    A batch ends with the file that brings it to `BATCH_FILES_MAX` entries or `BATCH_BYTES_MAX`.
    """
    batch: Batch = []
    size = 0
    for entry in entries:
        batch.append(entry)
        if isinstance(entry, Found):
            size += entry.size
        if len(batch) >= BATCH_FILES_MAX or size >= BATCH_BYTES_MAX:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def kind_of(mode: int) -> str:
    """Say what is no regular file."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")


def missed(raw: bytes, error: OSError) -> Missed:
    """Say why a path could not be listed or read: it is gone, or another thing now, or it fails."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return Missed(raw, "skipped", "it vanished")
        case errno.ELOOP:
            return Missed(raw, "skipped", kind_of(stat.S_IFLNK))
        case errno.ENXIO:
            return Missed(raw, "skipped", kind_of(stat.S_IFSOCK))
        case _:
            return Missed(raw, "failed", error.strerror or str(error))


def printable(raw: bytes) -> str:
    """Return a path as text that is safe to print, the rest of its bytes as backslash escapes."""
    text = (raw or b".").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
