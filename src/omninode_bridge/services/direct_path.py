"""The direct path: one transaction for each action, and nothing but the truth of the tables.

It stands where the partition worker stands, with the same two doors, outcomes and entries, and
without what makes the worker fast: no cache, no batches, no fold outside of the lock. It is the way
back for an operator, and the oracle that the worker is compared with.

Rule 1: whatever an action is decided on is read under the partition's lock, in the transaction that
        decides it.
Rule 2: no answer before that transaction has ended (R2, R4).
Rule 3: whoever is no longer the owner stops at once and decides nothing more (R12).

Why this path and the worker may change one key at once. All commits go through the function of
migration 009, and that locks the partition's row before it looks at anything.
- We hold that lock from before our first reading until our end. Nobody commits between what we read
  and what we write, so we are never stale and never meet an id that we have not recalled: an
  action needs one try.
- The worker reads and folds without the lock. What we commit meanwhile changes the version of the
  key, or makes an id known; its commit checks both under the lock and is refused whole. Then it
  folds again from our state, or tells our outcome. What it has in its cache meets the same check.
- The position in the action log is the owner's to move: the token is checked under the lock. Who
  has no token commits beside the owner, and leaves the log to it.

What if a reply is lost: the transaction whose end is not known holds the lock, and each try begins
by waiting for it. Then the id is remembered or nothing has happened, and the position has moved
with it or not at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from functools import partial
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

from omninode_bridge.core.ask import Ask
from omninode_bridge.core.commit import (
    Accepted,
    Commit,
    Move,
    Refusal,
    outcomes_of,
    ownership_lost,
    settles,
    told_again,
)
from omninode_bridge.core.errors import (
    BridgeClosed,
    DatabaseUnavailable,
    OwnershipLost,
    ValueRefused,
)
from omninode_bridge.core.message import key_type_of
from omninode_bridge.core.observation import (
    BatchCommitted,
    CommitRefused,
    LoopStumbled,
    OwnershipChanged,
    ignore,
)
from omninode_bridge.core.reducer import NEVER_SEEN, Absorbed, Refused, fold
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.ports import CutOff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from omninode_bridge.core.commit import Remembered
    from omninode_bridge.core.message import Outcome, SealedAction
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.reducer import Codec, KeyType, Step
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.ports import ActionLog, CanonicalStore, Clock, LockedPartition

    Asked = Ask[asyncio.Future[Outcome]]

_T = TypeVar("_T")

INBOX_MAX: Final = 10_000
PAGE_MAX: Final = 100
"""How many entries of the action log are looked at together."""
POLL_S: Final = 0.2


class DirectPath:
    """The other worker of one partition. `run` it in a task; `submit` to it from the same loop.

    `owner` is the token of the partition's lease; None commits beside the owner what is submitted,
    and leaves the action log alone. `committed` is told each commit right after it is durable.
    `answer` is told the outcome of each action that came by the log. After `run` has ended,
    `leftovers` holds the asks it took on and did not answer.
    """

    def __init__(
        self,
        partition: int,
        owner: UUID | None,
        *,
        store: CanonicalStore,
        action_log: ActionLog,
        key_types: Mapping[str, KeyType],
        codec: Codec,
        clock: Clock,
        new_id: Callable[[], UUID],
        uniform: Uniform,
        committed: Callable[[Commit, Accepted], None] = lambda _commit, _accepted: None,
        answer: Callable[[SealedAction, Outcome], None] = lambda _action, _outcome: None,
        observe: Observe = ignore,
        inbox_max: int = INBOX_MAX,
    ) -> None:
        """Take what it needs of the world; nothing happens before `run`."""
        self.partition = partition
        self.owner = owner
        self._store = store
        self._action_log = action_log
        self._key_types = key_types
        self._codec = codec
        self._clock = clock
        self._new_id = new_id
        self._uniform = uniform
        self._committed = committed
        self._answer = answer
        self._observe = observe
        self._inbox_max = inbox_max
        self._inbox: deque[Asked] = deque()
        self._page: deque[Asked] = deque()
        self._following = 1
        self._look_at = 0.0
        self._is_logs_turn = True
        self._in_hand: list[Asked] = []
        self._stopping = False
        self._lost = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    # -- the doors ---------------------------------------------------------------------------------

    async def submit(self, action: SealedAction) -> asyncio.Future[Outcome]:
        """Hand an action over; return the future of its outcome. Waits while the inbox is full.

        Raises:
            BridgeClosed: no more work is taken.
        """
        while (future := self.submit_now(action)) is None:
            self._room.clear()
            await self._room.wait()
        return future

    def submit_now(self, action: SealedAction) -> asyncio.Future[Outcome] | None:
        """Hand an action over if there is room for it in the inbox; None: there is none.

        Raises:
            BridgeClosed: no more work is taken.
        """
        if self._stopping or self._lost:
            message = f"partition {self.partition} takes no more work here"
            raise BridgeClosed(message)
        if len(self._inbox) >= self._inbox_max:
            return None
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._inbox.append(Ask(action, future))
        self._arrived.set()
        return future

    async def handle_action(self, action: SealedAction) -> Outcome:
        """Submit one action and return its outcome; `run` must be running."""
        return await (await self.submit(action))

    def log_grew(self) -> None:
        """Look at the action log now rather than at the next poll."""
        self._look_at = 0.0
        self._arrived.set()

    def stop(self) -> None:
        """Take no more work; `run` ends when what was submitted is answered.

        What is in the log stays there, for whoever owns the partition next.
        """
        self._stopping = True
        self._arrived.set()
        self._room.set()

    def leftovers(self) -> list[Asked]:
        """Return the submitted asks that have no answer, in order: they may go another way."""
        asks = [ask for ask in (*self._in_hand, *self._inbox) if ask.offset is None]
        return [ask for ask in asks if ask.future is not None and not ask.future.done()]

    # -- the loop ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            OwnershipLost: at once, when another process has taken the partition.
        """
        try:
            position = partial(self._action_log.position, self.partition)
            self._following = await self._patiently(position)
            while (ask := await self._next()) is not None:
                self._in_hand = [ask]
                await self._settle(ask)
                self._in_hand = []
        finally:
            # Until here asks are taken, as leftovers; whoever awaits us collects them in this same
            # turn of the loop, so that none can go another way before them (R5).
            self._lost = True
            self._room.set()

    async def _next(self) -> Asked | None:
        """Wait for work and take one ask, from the doors by turns when both have one.

        None: it was stopped and has nothing left to do.
        """
        while True:
            self._arrived.clear()
            await self._look_at_log()
            if self._page and (self._is_logs_turn or not self._inbox):
                self._is_logs_turn = False
                return self._page.popleft()
            if self._inbox:
                self._is_logs_turn = True
                self._room.set()
                return self._inbox.popleft()
            if self._stopping:
                return None
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._arrived.wait()

    async def _look_at_log(self) -> None:
        """Take a page of the log when the last one is done with, on a hint, or now and then."""
        if self._stopping:
            self._page.clear()
            return
        if self.owner is None or self._page or monotonic() < self._look_at:
            return
        self._look_at = monotonic() + POLL_S  # before the look: a hint during it is not lost
        read = partial(self._action_log.read, self.partition, self._following, PAGE_MAX)
        page = await self._patiently(read)
        if isinstance(page, CutOff):
            what = f"has a log that was cut off at {page.low}, behind the position"
            raise OwnershipLost(self.partition, f"{what} {self._following}")
        if page:
            self._following = page[-1].offset + 1
            self._page.extend(Ask(entry.action, None, entry.offset) for entry in page)
            self._look_at = 0.0  # there may be more

    # -- one action --------------------------------------------------------------------------------

    async def _settle(self, ask: Asked) -> None:
        """Decide `ask` and answer, however long the database is away."""
        tries = count()
        await self._patiently(lambda: self._decide(ask, is_repeated=next(tries) > 0))

    async def _decide(self, ask: Asked, *, is_repeated: bool) -> None:
        """Decide in one transaction, then answer; `is_repeated` when another try came before."""
        began = monotonic()
        try:
            async with self._store.locked(self.partition) as locked:
                known = (await locked.recall([ask.name])).get(ask.name)
                if known is not None and not settles(known, ask.action):
                    known = None
                commit = await self._commit_of(locked, ask, known)
                done = None if commit is None else (commit, await locked.commit(commit))
        except ValueRefused as error:
            if ask.refusal is not None:
                raise  # not even the give-up can be stored: that is not the action's fault
            ask.refusal = str(error)
            await self._decide(ask, is_repeated=is_repeated)
            return
        # The transaction has ended: what it did is durable.
        outcome = None
        if known is not None:
            outcome = told_again(ask.action, known.outcome, known.request_hash)
        match done:
            case (_, Refusal() as refusal):
                await self._refused(ask, refusal, is_repeated=is_repeated)
            case (made, Accepted() as accepted):
                self._committed(made, accepted)
                outcome = outcome or outcomes_of(made, accepted)[0]
                self._report(made, monotonic() - began)
            case None:
                pass
        if outcome is not None:
            self._tell(ask, outcome)

    async def _commit_of(
        self, locked: LockedPartition, ask: Asked, known: Remembered | None
    ) -> Commit | None:
        """Fold the action and return what to commit; None: it is known, and no position moves."""
        move = None if ask.offset is None else Move(ask.offset, ask.offset + 1)
        if known is not None and move is None:
            return None
        reads: dict[str, int] = {}
        steps: list[Step] = []
        committed_at = self._clock()
        if known is None:
            action, workflow_key = ask.action, ask.action.workflow_key
            snapshot = (await locked.read([workflow_key])).get(workflow_key, NEVER_SEEN)
            reads[workflow_key] = snapshot.version
            if ask.refusal is not None:
                steps = [Refused(action, "invalid", ask.refusal, snapshot.version, False)]
            else:
                key_type = self._key_types.get(key_type_of(workflow_key))
                _, steps = fold(snapshot, [action], key_type, self._codec, committed_at)
        effect_id = self._new_id()
        return Commit(self.partition, self.owner, reads, steps, committed_at, effect_id, move)

    async def _refused(self, ask: Asked, refusal: Refusal, *, is_repeated: bool) -> None:
        """Stop, unless the position has moved because an earlier try of our own did commit.

        Then the action is done, remembered or not (R3: positions).
        """
        assert not refusal.stale, "it was read under the lock"
        assert not refusal.known, "it was recalled under the lock"
        if is_repeated and not refusal.not_owner and ask.offset is not None:
            position = partial(self._action_log.position, self.partition)
            if await self._patiently(position) == ask.offset + 1:
                return
        self._observe(CommitRefused(self.partition, refusal.not_owner, refusal.moved, 0, 0))
        self._observe(OwnershipChanged(self.partition, "lost"))
        raise ownership_lost(self.partition, refusal)

    def _report(self, commit: Commit, seconds: float) -> None:
        absorbed = sum(isinstance(step, Absorbed) for step in commit.steps)
        gave_up = len(commit.steps) - absorbed
        counts = (1, len(commit.reads), absorbed, gave_up, 1 - len(commit.steps))
        self._observe(BatchCommitted(self.partition, *counts, commit.attempts, seconds))

    def _tell(self, ask: Asked, outcome: Outcome) -> None:
        if ask.future is None:
            self._answer(ask.action, outcome)
        elif not ask.future.done():
            ask.future.set_result(outcome)

    async def _patiently(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Call until the database answers."""
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._uniform)
        for attempt in count(1):
            try:
                return await call()
            except DatabaseUnavailable as error:
                self._observe(LoopStumbled("reducer", self.partition, attempt, error))
                await asyncio.sleep(next(waits_ms) / 1000)
        raise AssertionError  # pragma: no cover - count() does not end
