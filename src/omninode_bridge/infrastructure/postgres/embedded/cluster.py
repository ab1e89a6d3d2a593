"""Makes the database of a data folder: initdb beside its place, synced, then one rename.

Rule 1: `postgres/data` is there whole, or not there. Whoever is killed half way leaves a folder
    beside it, which the next one removes.
"""

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING, Final

from omninode_bridge.infrastructure.postgres.embedded.account import require_reach
from omninode_bridge.infrastructure.postgres.embedded.errors import (
    ServerStartFailed,
    WrongPostgresVersion,
)
from omninode_bridge.infrastructure.postgres.embedded.process import run
from omninode_bridge.infrastructure.postgres.embedded.settings import DATABASE, ROLE

if TYPE_CHECKING:
    from pathlib import Path

    from omninode_bridge.infrastructure.postgres.embedded.binaries import PostgresBinaries
    from omninode_bridge.infrastructure.postgres.embedded.data_folder import DataFolder

_UNFINISHED: Final = "unfinished-"
_STEP_WAIT_S: Final = 120.0


async def make_database(folder: DataFolder, binaries: PostgresBinaries, version: int) -> None:
    """Make the database of `folder` if it has none. Call while holding `folder.start_lock`.

    `version` is the major version of `binaries`.

    Raises:
        ServerStartFailed: when a step fails; it shows what the program said.
        ServerAccountLockedOut: when the server's account cannot reach the folder or the programs.
        WrongPostgresVersion: when another major version of PostgreSQL made it.
    """
    for leftover in folder.postgres.glob(f"{_UNFINISHED}*"):
        # An initdb that lost its parent may still be writing there; it will be gone next time.
        shutil.rmtree(leftover, ignore_errors=True)
    found = folder.made_by_version()
    if found is not None:
        if found != version:
            raise WrongPostgresVersion(folder.path, found, version)
        return
    unfinished = folder.postgres / f"{_UNFINISHED}{secrets.token_hex(4)}"
    try:
        await _initdb(folder, binaries, unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(folder.database)
    for changed in (folder.postgres, folder.path, folder.path.parent):
        _sync_folder(changed)


async def _initdb(folder: DataFolder, binaries: PostgresBinaries, unfinished: Path) -> None:
    initdb = str(binaries.initdb)
    place = f"--pgdata={unfinished}"
    # Nothing is synced on the way: the last step syncs all of it at once.
    await _step(
        folder,
        binaries,
        [
            initdb,
            place,
            f"--username={ROLE}",
            "--encoding=UTF8",
            "--locale=C",
            "--data-checksums",
            "--auth=peer",
            "--no-sync",
            "--no-instructions",
        ],
    )
    await _step(
        folder,
        binaries,
        [
            str(binaries.postgres),
            "--single",
            "-D",
            str(unfinished),
            "-c",
            "fsync=off",
            "-c",
            "exit_on_error=on",
            "postgres",
        ],
        f"CREATE DATABASE {DATABASE};\n",
    )
    await _step(folder, binaries, [initdb, place, "--sync-only"])


async def _step(
    folder: DataFolder, binaries: PostgresBinaries, command: list[str], words_in: str = ""
) -> None:
    try:
        code, output = await run(command, folder.account, wait_s=_STEP_WAIT_S, words_in=words_in)
    except OSError as error:
        require_reachable(folder, binaries)
        raise ServerStartFailed(folder.path, f"{command[0]}: {error}", "") from error
    if code:
        require_reachable(folder, binaries)
        raise ServerStartFailed(folder.path, f"{command[0]} ended with exit code {code}.", output)


def require_reachable(folder: DataFolder, binaries: PostgresBinaries) -> None:
    """After a failure, see whether the cause is that the server's account is locked out.

    Raises:
        ServerAccountLockedOut: with advice for the case at hand.
    """
    if folder.account.uid == os.geteuid():
        return
    require_reach(
        folder.account,
        folder.postgres,
        "Choose a folder elsewhere with --data-dir (for example /var/lib/omninode_bridge), or run"
        " as an ordinary user.",
    )
    require_reach(
        folder.account,
        binaries.postgres,
        "Install omninode_bridge where every user may read it (for example in a virtual"
        " environment under /opt), or run as an ordinary user.",
    )


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
