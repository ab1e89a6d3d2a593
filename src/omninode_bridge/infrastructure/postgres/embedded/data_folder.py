"""The data folder: what is in it, whose it is, and where the server's socket goes.

    <data folder>/             ours; nobody else may enter (the server's account may pass through)
      omninode_bridge.txt      says that the folder is ours
      start.lock users.lock keeper.lock writer.lock
      postgresql.conf pg_hba.conf pg_ident.conf      written anew at every start
      socket-folder.txt        only where the socket could not be in `postgres/`
      postgres/                belongs to the account the server runs as; nobody else may enter
        data/                  the database
        server.log server.log.1
        .s.PGSQL.5432          the socket

Rule 1: we change the owner and the mode of folders we made, never of one above them.
Rule 2: what root writes, root writes where no other account can put a link in its way: outside
    `postgres/`.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import BridgeError
from omninode_bridge.infrastructure.postgres.embedded.account import Account, server_account
from omninode_bridge.infrastructure.postgres.embedded.errors import DataFolderRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKER: Final = "omninode_bridge.txt"
_LAYOUT: Final = "layout 1"
_MARKER_TEXT: Final = (
    f"{_LAYOUT}\n"
    "This folder holds the database of omninode_bridge. Leave the files in it alone while a\n"
    "command runs; to be rid of the database, delete the whole folder.\n"
)
# What a file system puts into its own top folder.
_NOT_CONTENT: Final = frozenset({"lost+found"})


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A data folder that is ours, and the account its server runs as."""

    path: Path
    account: Account

    @property
    def start_lock(self) -> Path:
        """Held by who is starting the server or joining it."""
        return self.path / "start.lock"

    @property
    def users_lock(self) -> Path:
        """Shared by all who use the server; the keeper takes it alone in order to stop it."""
        return self.path / "users.lock"

    @property
    def keeper_lock(self) -> Path:
        """Held by the keeper as long as it lives."""
        return keeper_lock_in(self.path)

    @property
    def writer_lock(self) -> Path:
        """Shared by all who write; held alone by who may have no other writer beside it."""
        return self.path / "writer.lock"

    @property
    def postgres(self) -> Path:
        """The folder that belongs to the server's account."""
        return self.path / "postgres"

    @property
    def database(self) -> Path:
        """What PostgreSQL calls the data directory."""
        return self.postgres / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.postgres / "server.log"

    def made_by_version(self) -> int | None:
        """Return the major version that made the database, or None if there is none yet."""
        try:
            return int((self.database / "PG_VERSION").read_text(encoding="ascii"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            reason = f"{self.database / 'PG_VERSION'} cannot be read: {error}"
            raise DataFolderRefused(self.path, reason) from error

    def write_for_server(self, name: str, text: str) -> None:
        """Write a file that the server's account may read and not change, in one step."""
        new = self.path / f"{name}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if self.account.uid != os.geteuid():
                os.fchown(descriptor, -1, self.account.gid)
                os.fchmod(descriptor, 0o640)
        new.replace(self.path / name)


def open_data_folder(path: Path) -> DataFolder:
    """Make the data folder at `path` if it is not there, and see that it is ours and private.

    Raises:
        DataFolderRefused: when it is somebody else's, or holds something else; nothing is changed.
        ServerAccountMissing: when there is no account for the server.
    """
    path = Path(os.path.realpath(path.expanduser()))
    with usable(path):
        _make(path)
        _require_ours(path)
        (path / _MARKER).touch(mode=0o600)
        if not (path / _MARKER).stat().st_size:
            (path / _MARKER).write_text(_MARKER_TEXT, encoding="utf-8")
        folder = DataFolder(path, server_account(path / "postgres"))
        _make_private(folder)
    return folder


def keeper_lock_in(path: Path) -> Path:
    """Return where the keeper's lock of the data folder `path` is, or would be."""
    return path.expanduser() / "keeper.lock"


def is_marked(path: Path) -> bool:
    """Return whether `path` is a data folder already, as far as we are allowed to see."""
    try:
        return (path.expanduser() / _MARKER).exists()
    except PermissionError:
        return True  # somebody's it is; opening it says whose


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """Turn what the system refuses us in the data folder `path` into `DataFolderRefused`."""
    try:
        yield
    except BridgeError:
        raise
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reason = f"{error.strerror or error}{where}. Choose another with --data-dir."
        raise DataFolderRefused(path, reason) from error


def _make(path: Path) -> None:
    """Make the folder, and as root, those above it such that the server's account may pass."""
    if os.geteuid() == 0:
        for above in reversed(path.parents):
            if not above.exists():
                with suppress(FileExistsError):
                    above.mkdir()
                    above.chmod(0o711)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _require_ours(path: Path) -> None:
    status = path.stat()
    if status.st_uid != os.geteuid():
        reason = (
            f"it belongs to the user id {status.st_uid}, and this process runs as the user id"
            f" {os.geteuid()}. Run the command as the user it belongs to, or choose another with"
            " --data-dir (a new folder in there will do)."
        )
        raise DataFolderRefused(path, reason)
    names = set(os.listdir(path)) - _NOT_CONTENT  # noqa: PTH208 - only the names are needed
    if names and _MARKER not in names:
        reason = (
            f"it holds something else ({', '.join(sorted(names)[:3])}, ...). Choose a folder that"
            " is empty or does not exist yet with --data-dir."
        )
        raise DataFolderRefused(path, reason)
    if _MARKER in names:
        layout = (path / _MARKER).read_text(encoding="utf-8").partition("\n")[0]
        if layout not in {"", _LAYOUT}:
            reason = (
                f"its layout is {layout!r}, this version knows {_LAYOUT!r}. Use the version of"
                " omninode_bridge that made it, or a newer one."
            )
            raise DataFolderRefused(path, reason)


def _make_private(folder: DataFolder) -> None:
    """Let nobody into the folder but us, and the server's account only through it."""
    account = folder.account
    passing_through = account.uid != os.geteuid()
    _set(
        folder.path,
        os.geteuid(),
        account.gid if passing_through else -1,
        0o710 if passing_through else 0o700,
    )
    folder.postgres.mkdir(mode=0o700, exist_ok=True)
    _set(folder.postgres, account.uid, account.gid if passing_through else -1, 0o700)


def _set(path: Path, uid: int, gid: int, mode: int) -> None:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise DataFolderRefused(path, "it is not a folder. Choose another with --data-dir.")
    if status.st_uid != uid or gid not in {-1, status.st_gid}:
        os.chown(path, uid, gid, follow_symlinks=False)
    if stat.S_IMODE(status.st_mode) != mode:
        path.chmod(mode)
        if stat.S_IMODE(path.lstat().st_mode) != mode:
            reason = (
                "its file system keeps no permissions, so other users of this machine could read"
                " the database. Choose a folder on another file system with --data-dir."
            )
            raise DataFolderRefused(path, reason)
