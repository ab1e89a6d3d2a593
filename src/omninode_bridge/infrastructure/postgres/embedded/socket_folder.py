"""Where the server's socket goes: beside its database, or into a short folder of its own.

The path of a socket may have 107 bytes on Linux and 103 on macOS; clients take a comma in it for
the border between two hosts, and the server a quotation mark for the end of it. Where the folder's
own path will not do, the socket goes into a folder in the system's folder for temporary files.

Rule 1: that folder's name begins with a hash of the data folder's path, and is remembered in the
    data folder together with that path. So a copy of a data folder, or one made anew in the place
    of one that was deleted, never meets the socket of the other.
Rule 2: others can write where that folder is, so it is used only if it is a folder, no link, of
    mode 0700, and the server's account's; and it is made by mkdir under a name nobody can guess,
    which neither follows a link nor takes what is there. Nobody else can put another in its place:
    that is what the sticky bit of its parent is for.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omninode_bridge.infrastructure.postgres.embedded.errors import DataFolderRefused
from omninode_bridge.infrastructure.postgres.embedded.keeper import SOCKET_NAME

if TYPE_CHECKING:
    from omninode_bridge.infrastructure.postgres.embedded.data_folder import DataFolder

PATH_BYTES_MAX: Final = 103
_REMEMBERED: Final = "socket-folder.txt"


def find_socket_folder(folder: DataFolder) -> Path | None:
    """Return where the socket of a running server is, or None if there can be none."""
    if fits(folder.postgres):
        return folder.postgres
    remembered = _recall(folder)
    return remembered if remembered is not None and _is_safe(remembered, folder) else None


def make_socket_folder(folder: DataFolder) -> Path:
    """Return a folder for the socket, made if need be. Call while holding `folder.start_lock`.

    Raises:
        DataFolderRefused: when there is no place for one.
    """
    found = find_socket_folder(folder)
    if found is not None:
        return found
    digest = hashlib.sha256(os.fsencode(folder.path)).hexdigest()[:16]
    prefix = f"omninode-bridge-{digest}-"
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - see rule 2
        if fits(parent / f"{prefix}{'?' * 8}") and _is_safe_parent(parent):
            path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            if folder.account.uid != os.geteuid():
                os.chown(path, folder.account.uid, folder.account.gid, follow_symlinks=False)
            return _remember(folder, path)
    reason = (
        f"its path is too long for a socket (more than {PATH_BYTES_MAX} bytes) or has a comma in"
        " it, and no folder for the socket can be made in the folder for temporary files. Choose"
        " another with --data-dir."
    )
    raise DataFolderRefused(folder.path, reason)


def fits(socket_folder: Path) -> bool:
    """Say whether clients can connect to a socket in `socket_folder`."""
    path = os.fsencode(socket_folder / SOCKET_NAME)
    return len(path) <= PATH_BYTES_MAX and not set(path) & set(b',"')


def _is_safe(path: Path, folder: DataFolder) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == folder.account.uid
        and stat.S_IMODE(status.st_mode) == 0o700  # noqa: PLR2004 - a mode
    )


def _is_safe_parent(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid in {0, os.geteuid()} and (
        not others_write or bool(status.st_mode & stat.S_ISVTX)
    )


def _remember(folder: DataFolder, path: Path) -> Path:
    new = folder.path / f"{_REMEMBERED}.new"
    new.write_bytes(os.fsencode(path) + b"\0" + os.fsencode(folder.path))
    new.replace(folder.path / _REMEMBERED)
    return path


def _recall(folder: DataFolder) -> Path | None:
    try:
        path, _, of_folder = (folder.path / _REMEMBERED).read_bytes().partition(b"\0")
    except OSError:
        return None
    return Path(os.fsdecode(path)) if of_folder == os.fsencode(folder.path) else None
