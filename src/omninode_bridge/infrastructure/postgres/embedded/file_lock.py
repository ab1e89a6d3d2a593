"""Locks between processes: `flock` on a file, freed by the kernel however its holder ends.

Rule 1: a lock file is never deleted. Who deletes one lets a newcomer lock another file of that
    name while the old one is still held.
Rule 2: the descriptor is close-on-exec (Python's default), and a forked child closes its copy, so
    no child keeps a lock for a parent that is gone.
Rule 3: nothing blocks. A lock is tried again and again with sleeps between, so that waiting costs
    the event loop nothing, a cancelled wait leaves nothing behind, and every wait has an end.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from omninode_bridge.infrastructure.postgres.embedded.errors import LockTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

_FIRST_PAUSE_S: Final = 0.005
_LONGEST_PAUSE_S: Final = 0.1
_HOLDER_BYTES_MAX: Final = 32


class HeldLock:
    """A lock this process holds, until `release`."""

    def __init__(self, descriptor: int) -> None:
        """Own an open descriptor that carries the lock."""
        self._descriptor = descriptor
        _held.add(self)

    def sign(self) -> None:
        """Write our process id into the file, for others to name who they wait for."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    async def share(self) -> None:
        """Share the lock with others from now on; it was ours alone.

        The kernel does that in two steps: one who waits to have it alone may come between, and we
        wait for its end. So nothing may have begun yet that is not to be broken by such a one.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.5)
            else:
                return

    def release(self) -> None:
        """Let go. A second call does nothing."""
        if self._descriptor >= 0:
            # Unlocked rather than only closed: that also frees it for copies of the descriptor.
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.forget()

    def forget(self) -> None:
        """Close our copy of the descriptor and leave the lock to the process that holds it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


_held: WeakSet[HeldLock] = WeakSet()


def _forget_all() -> None:
    for lock in tuple(_held):
        lock.forget()


os.register_at_fork(after_in_child=_forget_all)


def try_lock(path: Path, *, shared: bool = False) -> HeldLock | None:
    """Take the lock on `path`, made if it is not there, or return None if another is in the way."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return HeldLock(descriptor)


def is_locked(path: Path) -> bool:
    """Say whether some process holds the lock on `path` exclusively.

    It looks by a shared lock of an instant, so two that look at once do not mistake each other
    for a holder.
    """
    lock = try_lock(path, shared=True)
    if lock is None:
        return True
    lock.release()
    return False


def holder_of(path: Path) -> int | None:
    """Return the process id that the holder of `path` signed with, if it did."""
    try:
        with path.open("rb") as file:
            return int(file.read(_HOLDER_BYTES_MAX))
    except (OSError, ValueError):
        return None


async def lock_file(
    path: Path,
    *,
    shared: bool = False,
    wait_s: float,
    on_wait: Callable[[], None] | None = None,
) -> HeldLock:
    """Take the lock on `path`, waiting up to `wait_s` for it; call `on_wait` once if we must wait.

    Raises:
        LockTimeout: when it was not free in time.
    """
    deadline = time.monotonic() + wait_s
    pause_s = _FIRST_PAUSE_S
    while (lock := try_lock(path, shared=shared)) is None:
        if on_wait is not None:
            on_wait()
            on_wait = None
        if time.monotonic() >= deadline:
            raise LockTimeout(path, wait_s, holder_of(path))
        await asyncio.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.5)
    return lock


@asynccontextmanager
async def holding(
    path: Path,
    *,
    shared: bool = False,
    wait_s: float,
    on_wait: Callable[[], None] | None = None,
) -> AsyncIterator[HeldLock]:
    """Hold the lock on `path` for the length of the block; see `lock_file`."""
    lock = await lock_file(path, shared=shared, wait_s=wait_s, on_wait=on_wait)
    try:
        yield lock
    finally:
        lock.release()
