"""Runs a program to its end without blocking the event loop, as another account if need be.

Not `asyncio.create_subprocess_exec`: uvloop's cannot change the account.

A program may start others (`initdb` does), which outlive it when it is killed. So it gets a process
group of its own, which is killed whole; and a pipe that all of them inherit shows when the last one
has ended, for then its reading end is at its end.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from omninode_bridge.infrastructure.postgres.embedded.settings import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.infrastructure.postgres.embedded.account import Account

_LOOK_S: Final = 0.005
_OUTPUT_BYTES_MAX: Final = 4000
_KILL_WAIT_MS: Final = 5000


async def run(
    command: Sequence[str], account: Account, *, wait_s: float, words_in: str = ""
) -> tuple[int, str]:
    """Run `command` as `account`; return its exit code and the end of what it said.

    When the wait is cancelled or too long, the program is killed and gathered first, with all that
    it has started.

    Raises:
        OSError: when it cannot be run, for example because `account` may not read it.
        TimeoutError: when it took longer than `wait_s`.
    """
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as output:
        stdin.write(words_in.encode())
        stdin.seek(0)
        other = account.uid != os.geteuid()
        alive, inherited = os.pipe()
        try:
            try:
                process = subprocess.Popen(  # noqa: ASYNC220, S603 - see the module
                    command,
                    stdin=stdin,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env=environment(),
                    user=account.uid if other else None,
                    group=account.gid if other else None,
                    extra_groups=[] if other else None,
                    umask=0o077,
                    pass_fds=[inherited],
                    start_new_session=True,
                )
            finally:
                os.close(inherited)
            try:
                await _ended(process, wait_s)
            finally:
                if process.poll() is None:
                    _kill(process, alive)
        finally:
            os.close(alive)
        end = output.seek(0, os.SEEK_END)
        output.seek(max(0, end - _OUTPUT_BYTES_MAX))
        return process.returncode, output.read().decode(errors="replace").strip()


async def _ended(process: subprocess.Popen[bytes], wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while process.poll() is None:
        if time.monotonic() > deadline:
            message = f"a program took more than {wait_s:g} s: {process.args!r}"
            raise TimeoutError(message)
        await asyncio.sleep(_LOOK_S)


def _kill(process: subprocess.Popen[bytes], alive: int) -> None:
    """Kill the program and all that it has started, and wait until none of them can do more."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    watch = select.poll()
    watch.register(alive, 0)  # POLLHUP is told unasked
    watch.poll(_KILL_WAIT_MS)
