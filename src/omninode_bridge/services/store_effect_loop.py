"""The store effect as a loop: commits what reducers elsewhere have folded, and answers them.

Rule 1: it decides nothing. A commit says what it was folded from and under which token; the store
        takes it or refuses it, whoever brings it, and however often.

What if the process dies ...
- before the commit: the message is behind the position, and whoever comes next reads it again.
- after it, before the answer: it is read again, and refused. The reducer hears of the refusal, or
  of nothing, and looks under the lock what became of it.
- after the answer, before the position is stored: as above, and nobody waits for the second answer.
What if two do this for one partition: the second is refused. The reducer takes the first answer it
hears; a refusal that may be the echo of its own commit it does not believe (`persist_over_bus`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.commit import Accepted
from omninode_bridge.core.errors import (
    BusUnavailable,
    DatabaseRefused,
    DatabaseUnavailable,
    MessagesLost,
    ValueRefused,
)
from omninode_bridge.core.observation import CommitsPersisted, LoopStumbled, ignore
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.ports import Unstorable

if TYPE_CHECKING:
    from omninode_bridge.core.commit import Commit, Refusal
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.ports import CanonicalStore, Command, CommandPositions, PersistCommands

PAGE_MAX: Final = 16
STORE_S: Final = 0.5


class StoreEffectLoop:
    """The commits of one partition. `run` it in a task, which may be cancelled at any point."""

    def __init__(
        self,
        partition: int,
        *,
        commands: PersistCommands,
        positions: CommandPositions,
        store: CanonicalStore,
        uniform: Uniform,
        observe: Observe = ignore,
    ) -> None:
        """Take what it needs of the world; nothing happens before `run`."""
        self.partition = partition
        self._commands = commands
        self._positions = positions
        self._store = store
        self._uniform = uniform
        self._observe = observe
        self._incarnation: str | None = None
        self._position = 0
        self._stored = 0
        self._store_at = 0.0
        self._lost = False
        self._stopping = False

    def stop(self) -> None:
        """End `run` after the page under way."""
        self._stopping = True

    async def run(self) -> None:
        """Commit and answer until stopped."""
        try:
            await self._run()
        finally:
            self._commands.close(self.partition)

    async def _run(self) -> None:
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._uniform)
        attempt = 0
        while not self._stopping:
            try:
                incarnation = self._incarnation or await self._begin()
                page = await self._commands.read(self.partition, self._position, PAGE_MAX)
                for command in page.commands:
                    await self._carry_out(command)
                    self._position = command.offset + 1
                self._position = page.following
                await self._store_position(incarnation)
                attempt, waits_ms = 0, OUTAGE_BACKOFF.waits_ms(self._uniform)
            except (BusUnavailable, DatabaseUnavailable, MessagesLost) as error:
                attempt += 1
                self._incarnation = None  # where to go on has to be asked anew
                self._lost = isinstance(error, MessagesLost)
                self._observe(LoopStumbled("store effect", self.partition, attempt, error))
                await asyncio.sleep(next(waits_ms) / 1000)
        if self._incarnation is not None:
            await self._positions.advance(self.partition, self._incarnation, self._position)

    async def _begin(self) -> str:
        """Find the stored position; what is no longer there needs no answer any more."""
        incarnation, beginning, end = await self._commands.bounds(self.partition)
        position = await self._positions.position(self.partition, incarnation, beginning)
        if self._lost and position > end:  # a topic that has lost its end, as by a disk that lied
            await self._positions.go_back(self.partition, incarnation, beginning)
            position = beginning
        self._lost = False
        self._position = self._stored = position
        self._incarnation = incarnation
        return incarnation

    async def _carry_out(self, command: Command) -> None:
        """Commit, and answer. What is no commit was sent by nobody who waits."""
        if command.commit is None:
            reason = ValueError(f"message {command.offset} is no commit: {command.reason}")
            self._observe(LoopStumbled("store effect", self.partition, 1, reason))
            return
        commit = command.commit
        try:
            answer = await self._try(commit)
        except DatabaseRefused as error:  # no reducer of ours sends such; one that waits will look
            self._observe(LoopStumbled("store effect", self.partition, 1, error))
            return
        accepted = isinstance(answer, Accepted)
        self._observe(CommitsPersisted(self.partition, len(commit.steps), accepted))
        await self._commands.answer(commit, answer)

    async def _try(self, commit: Commit) -> Accepted | Refusal | Unstorable:
        try:
            return await self._store.commit(commit)
        except ValueRefused as error:
            return Unstorable(error.sqlstate, error.detail)

    async def _store_position(self, incarnation: str) -> None:
        now = asyncio.get_running_loop().time()
        if self._position != self._stored and now >= self._store_at:
            await self._positions.advance(self.partition, incarnation, self._position)
            self._stored = self._position
            self._store_at = now + STORE_S
