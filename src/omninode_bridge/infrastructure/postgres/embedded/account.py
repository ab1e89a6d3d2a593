"""Which account of the system the server runs as: our own, or for root an unprivileged one.

PostgreSQL refuses to run as root. As root we use the account `postgres` where there is one: it
exists for nothing but running PostgreSQL. Otherwise we use `nobody`, which every system has; other
services may use that too, so files are never all that keeps them out: `pg_ident.conf` lets in none
but the account that asked for the server. We add no account: that is the administrator's to do.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from omninode_bridge.infrastructure.postgres.embedded.errors import (
    ServerAccountLockedOut,
    ServerAccountMissing,
)

if TYPE_CHECKING:
    from pathlib import Path

_FOR_ROOT: Final = ("postgres", "_postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this system."""

    name: str
    uid: int
    gid: int


def our_account() -> Account:
    """Return the account we run as.

    Raises:
        ServerAccountMissing: when it has no entry in the system's list; initdb insists on one.
    """
    try:
        return _account(pwd.getpwuid(os.geteuid()))
    except KeyError:
        message = (
            f"the user id {os.geteuid()} has no entry in the system's list of users (/etc/passwd),"
            " and PostgreSQL does not run without one. Add the entry, run as another user, or use"
            " a server of your own with --database-url."
        )
        raise ServerAccountMissing(message) from None


def server_account(postgres_folder: Path) -> Account:
    """Return the account for the server whose files are, or will be, in `postgres_folder`.

    A folder that exists keeps the account it was made for, whatever accounts came or went since.

    Raises:
        ServerAccountMissing: when there is no such account.
    """
    if os.geteuid() != 0:
        return our_account()
    try:
        owner = postgres_folder.stat().st_uid
    except FileNotFoundError:
        owner = 0
    if owner:
        try:
            return _account(pwd.getpwuid(owner))
        except KeyError:
            message = (
                f"the database in {postgres_folder} belongs to the user id {owner}, which has no"
                " entry in the system's list of users (/etc/passwd). Add the entry, or give the"
                " folder and all that is in it to an account that has one (chown -R)."
            )
            raise ServerAccountMissing(message) from None
    for name in _FOR_ROOT:
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    message = (
        "PostgreSQL refuses to run as root, and this system has none of the accounts"
        f" {', '.join(_FOR_ROOT)}. Run as an ordinary user, or use a server of your own with"
        " --database-url."
    )
    raise ServerAccountMissing(message)


def require_reach(account: Account, path: Path, advice: str) -> None:
    """Refuse when `account` may not pass one of the folders on the way to `path`.

    Asked only after something failed, to name the cause: it reads the permission bits and knows
    nothing of access control lists.

    Raises:
        ServerAccountLockedOut: with the first folder in the way, and `advice`.
    """
    target = path.resolve()
    for step in (*reversed(path.parents), path, *reversed(target.parents), target):
        try:
            status = step.stat()
        except OSError:
            return
        if status.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            raise ServerAccountLockedOut(account.name, path, step, advice)


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
