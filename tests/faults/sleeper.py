"""A process that stands still between a fold and its commit.

`python -m tests.faults.sleeper URL worker|direct` serves the counting app, says `ready`, and reads
a line `KEY ID own|theirs`. An action of its `own` it submits; one of `theirs` comes by the log. The
batch that holds it is folded, and before it is sent the process says `late EFFECT_ID` and stops
itself (SIGSTOP); on the direct path that is in the middle of its transaction. Of an action of its
own it says in the end `told VERSION`. It serves on until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Final
from uuid import UUID

from omninode_bridge import Bridge
from omninode_bridge.services.canonical_store import _Locked
from tests.bridges import app
from tests.faults.load import say

if TYPE_CHECKING:
    from omninode_bridge.core.commit import Accepted, Commit, Refusal

SEND: Final = _Locked.try_it
stop_at: UUID | None = None


async def try_it(self: _Locked, commit: Commit) -> Accepted | Refusal:
    """Stop this process, once, if the action is in the batch; then send the batch as ever."""
    global stop_at  # noqa: PLW0603 - this program has one
    if stop_at in {step.action.action_id for step in commit.steps}:
        stop_at = None
        say("late", commit.effect_id)
        os.kill(os.getpid(), signal.SIGSTOP)
    return await SEND(self, commit)


async def main(database_url: str, path: str) -> None:
    """Serve until killed."""
    global stop_at  # noqa: PLW0603 - this program has one
    _Locked.try_it = try_it  # type: ignore[method-assign]
    async with Bridge.open(app, database_url=database_url, pure_reducer=path == "worker") as bridge:
        say("ready")
        key, action_id, whose = (await asyncio.to_thread(sys.stdin.readline)).split()
        stop_at = UUID(action_id)
        say("marked")
        if whose == "own":
            outcome = await bridge.submit(
                key, "Counted", {"amount": 1}, action_id=stop_at, timeout=60
            )
            say("told", outcome.committed().version)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
