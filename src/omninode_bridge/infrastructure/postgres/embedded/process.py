"""Runs a program to its end without blocking the event loop, as another account if need be.

Not `asyncio.create_subprocess_exec`: uvloop's cannot change the account.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Final

from omninode_bridge.infrastructure.postgres.embedded.settings import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.infrastructure.postgres.embedded.account import Account

_LOOK_S: Final = 0.005
_OUTPUT_BYTES_MAX: Final = 4000


async def run(
    command: Sequence[str], account: Account, *, wait_s: float, words_in: str = ""
) -> tuple[int, str]:
    """Run `command` as `account`; return its exit code and the end of what it said.

    When the wait is cancelled or too long, the program is killed and gathered first.

    Raises:
        OSError: when it cannot be run, for example because `account` may not read it.
        TimeoutError: when it took longer than `wait_s`.
    """
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as output:
        stdin.write(words_in.encode())
        stdin.seek(0)
        other = account.uid != os.geteuid()
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
        )
        try:
            deadline = time.monotonic() + wait_s
            while process.poll() is None:
                if time.monotonic() > deadline:
                    message = f"{command[0]} took more than {wait_s:g} s"
                    raise TimeoutError(message)
                await asyncio.sleep(_LOOK_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        end = output.seek(0, os.SEEK_END)
        output.seek(max(0, end - _OUTPUT_BYTES_MAX))
        return process.returncode, output.read().decode(errors="replace").strip()
