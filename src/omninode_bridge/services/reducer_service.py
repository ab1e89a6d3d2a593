"""The partition worker: takes what is there, folds it, commits it in one round trip, answers.

Two doors lead in: `submit` (same process; nothing needs to be durable before the commit answers)
and the `action` log (everything else). While a commit is under way the next batch gathers: load
makes batches, batches make throughput, and an idle system answers at once.

Rule 1: no answer before the commit (R2, R4).
Rule 2: whoever is no longer the owner stops at once and decides nothing more (R12).
Rule 3: nothing live survives a fold: the cache holds canonical bytes, and is dropped whenever a
        connection was lost.

What if the process dies ...
- before the commit is sent: nothing happened. An asker in this process died with it; what came by
  the log is still there, behind the position.
- after it was sent, before it is durable: as above; PostgreSQL rolls back.
- after it is durable, before the answer: the asker asks again by its id and gets the first
  outcome (R3); the position has moved with the commit, so the log's entries are not read again.
What if the reply is lost: committed or not is unknown. The outcomes of the batch are read back
under the partition's lock, which first waits for the old backend to end. What is not found is
folded again.
Should the old backend begin only after that, one of the two finds the other's ids, versions or
position under the lock, and is refused whole.
What if the action log is read while something is appended? What is handed over from memory joins
what was read, or is left to the log; and of a page that was read meanwhile, what has been handed
over is dropped by its offset. So the buffer holds each offset once, in order, without a gap.
What if a hint lies? Hints (the ids lately seen here, and those that others pass on) only say what
to look up before folding: what is found is answered at once, which saves a refused commit; what is
not is folded like the rest. The commit decides, whatever they say or keep to themselves (R3).
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
    BridgeError,
    DatabaseUnavailable,
    OwnershipLost,
    ValueRefused,
)
from omninode_bridge.core.message import content_hash, key_type_of
from omninode_bridge.core.observation import (
    BatchCommitted,
    CommitRefused,
    HintsFollowed,
    LoopStumbled,
    OwnershipChanged,
    ignore,
)
from omninode_bridge.core.recent_ids import IDS_MAX, RecentIds
from omninode_bridge.core.reducer import NEVER_SEEN, Absorbed, Refused, fold
from omninode_bridge.core.retry import OUTAGE_BACKOFF, Backoff
from omninode_bridge.core.snapshots import SnapshotCache
from omninode_bridge.ports import CutOff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Sized
    from uuid import UUID

    from omninode_bridge.core.commit import ActionName, Remembered
    from omninode_bridge.core.message import Outcome, SealedAction
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.reducer import Codec, KeyType, Snapshot, Step
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.ports import (
        ActionLog,
        CanonicalStore,
        Clock,
        Hints,
        LockedPartition,
        RememberedOutcomes,
    )

    Asked = Ask[asyncio.Future[Outcome]]

_T = TypeVar("_T")

BATCH_MAX: Final = 500
INBOX_MAX: Final = 10_000
LOG_BUFFER_MAX: Final = 1_000
POLL_S: Final = 0.2
BATCH_BYTES_MAX: Final = 32 * 1_048_576
"""Of what a batch reads and writes, about. One action more may be as big as R13 lets it be."""


class BatchTooBig(BridgeError):
    """A batch would be more than a commit should carry; it has more than one action."""


class ReducerService:
    """The worker of one partition. `run` it in a task; `submit` to it from the same loop.

    `committed` is told each commit right after it is durable. `answer` is told the outcome of each
    action that came by the log. After `run` has ended, `leftovers` holds the asks it took on and
    did not answer.
    """

    def __init__(
        self,
        partition: int,
        owner: UUID | None,
        *,
        store: CanonicalStore,
        outcomes: RememberedOutcomes,
        action_log: ActionLog,
        key_types: Mapping[str, KeyType],
        codec: Codec,
        clock: Clock,
        new_id: Callable[[], UUID],
        uniform: Uniform,
        hints: Hints | None = None,
        committed: Callable[[Commit, Accepted], None] = lambda _commit, _accepted: None,
        answer: Callable[[SealedAction, Outcome], None] = lambda _action, _outcome: None,
        observe: Observe = ignore,
        max_attempts: int = 3,
        backoff_base_ms: float = 10,
        backoff_cap_ms: float = 250,
        batch_max: int = BATCH_MAX,
        inbox_max: int = INBOX_MAX,
        recent_ids_max: int = IDS_MAX,
    ) -> None:
        """Take what the worker needs of the world; nothing happens before `run`."""
        self.partition = partition
        self.owner = owner
        self._store = store
        self._outcomes = outcomes
        self._hints = hints
        self._action_log = action_log
        self._key_types = key_types
        self._codec = codec
        self._clock = clock
        self._new_id = new_id
        self._uniform = uniform
        self._committed = committed
        self._answer = answer
        self._observe = observe
        self._backoff = Backoff(max_attempts, backoff_base_ms, backoff_cap_ms)
        self._batch_max = batch_max
        self._inbox_max = inbox_max
        self._inbox: deque[Asked] = deque()
        self._log_buffer: deque[Asked] = deque()
        self._position = 1
        self._read_upto = 0  # not known yet: nothing is handed over before `run`
        self._cache = SnapshotCache()
        self._recent_ids = RecentIds(recent_ids_max)
        self._in_hand: list[Asked] = []
        self._duplicates = 0
        self._stopping = False
        self._lost = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._log_hint = asyncio.Event()
        self._log_room = asyncio.Event()
        self._log_room.set()

    # -- the doors ---------------------------------------------------------------------------------

    async def submit(self, action: SealedAction) -> asyncio.Future[Outcome]:
        """Hand an action over; return the future of its outcome. Waits while the inbox is full.

        Raises:
            BridgeClosed: the worker takes no more work.
        """
        while (future := self.submit_now(action)) is None:
            self._room.clear()
            await self._room.wait()
        return future

    def submit_now(self, action: SealedAction) -> asyncio.Future[Outcome] | None:
        """Hand an action over if there is room for it in the inbox; None: there is none.

        Raises:
            BridgeClosed: the worker takes no more work.
        """
        if self._closed:
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
        self._log_hint.set()

    def on_appended(self, first: int, actions: Sequence[SealedAction]) -> None:
        """Take what was just appended to the action log, from offset `first` on, from memory.

        What does not join what was read, or finds no room, is read from the log like the rest.
        """
        if first != self._read_upto or len(self._log_buffer) >= LOG_BUFFER_MAX:
            self.log_grew()
            return
        self._read_upto += len(actions)
        self._log_buffer.extend(Ask(action, None, first + n) for n, action in enumerate(actions))
        self._arrived.set()

    def stop(self) -> None:
        """Take no more work; `run` ends when what was taken is answered."""
        self._stopping = True
        self._arrived.set()
        self._room.set()
        self._log_hint.set()

    @property
    def _closed(self) -> bool:
        return self._stopping or self._lost

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
        self._position = await self._patiently(partial(self._action_log.position, self.partition))
        self._read_upto = self._position
        reader = asyncio.create_task(self._read_log(), name=f"action log {self.partition}")
        reader.add_done_callback(lambda _: self._arrived.set())
        try:
            while asks := await self._gather(reader):
                self._in_hand = asks
                await self._settle(asks, _behind(asks))
                self._in_hand = []
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            # Until here asks are taken, as leftovers; whoever awaits us collects them in this same
            # turn of the loop, so that none can go another way before them (R5).
            self._lost = True
            self._room.set()

    async def _gather(self, reader: asyncio.Task[None]) -> list[Asked]:
        """Wait for work and take up to a batch of it, half from each door when both have enough.

        Nothing: the worker was stopped and has nothing left to do.
        """
        while True:
            if reader.done():
                reader.result()  # a reader that failed ends the worker
            if self._inbox or self._log_buffer:
                break
            if self._stopping:
                return []
            self._arrived.clear()
            await self._arrived.wait()
        half = self._batch_max // 2
        from_log = min(len(self._log_buffer), max(half, self._batch_max - len(self._inbox)))
        asks = [self._log_buffer.popleft() for _ in range(from_log)]
        from_inbox = min(len(self._inbox), self._batch_max - from_log)
        asks.extend(self._inbox.popleft() for _ in range(from_inbox))
        self._room.set()
        self._log_room.set()
        return asks

    async def _read_log(self) -> None:
        """Fill the buffer from the action log, woken by a hint, with polling as the safety net."""
        while not self._stopping:
            if len(self._log_buffer) >= LOG_BUFFER_MAX:
                self._log_room.clear()
                await self._log_room.wait()
                continue
            self._log_hint.clear()
            following = self._read_upto
            read = partial(self._action_log.read, self.partition, following, self._batch_max)
            page = await self._patiently(read)
            if isinstance(page, CutOff):
                what = f"has a log that was cut off at {page.low}, behind the position {following}"
                raise OwnershipLost(self.partition, what)
            # What was handed over meanwhile is in the buffer already.
            new = [entry for entry in page if entry.offset >= self._read_upto]
            if new:
                self._read_upto = new[-1].offset + 1
                self._log_buffer.extend(Ask(entry.action, None, entry.offset) for entry in new)
                self._arrived.set()
            if not page:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._log_hint.wait()

    # -- one batch ---------------------------------------------------------------------------------

    async def _settle(self, asks: Sequence[Asked], following: int | None) -> None:
        """Fold, commit and answer `asks`, each of them, however long the database is away.

        `following` is the position to move to with the commit; None leaves it.
        """
        began = monotonic()
        pending: dict[ActionName, list[Asked]] = {}
        for ask in asks:  # two asks with one id are one action, the first, or the one that redrives
            same = pending.setdefault(ask.name, [])
            same.insert(0 if ask.action.purpose == "redrive" else len(same), ask)
        move = None if following is None else Move(self._position, following)
        waits_ms = self._backoff.waits_ms(self._uniform)
        outage_waits_ms = OUTAGE_BACKOFF.waits_ms(self._uniform)
        attempt, stumbles = 1, 0
        self._duplicates = 0
        await self._look_up_seen(pending)
        while pending or move is not None:
            try:
                commit, result = await self._attempt(pending, move, attempt)
            except (ValueRefused, BatchTooBig) as error:
                await self._split([a for a in asks if a.name in pending], move, error)
                return
            except DatabaseUnavailable as error:
                stumbles += 1
                self._observe(LoopStumbled("reducer", self.partition, stumbles, error))
                move = await self._read_back(pending, move)
                if pending or move is not None:  # a full disk can be read, but not written to
                    await asyncio.sleep(next(outage_waits_ms) / 1000)
                continue
            if isinstance(result, Accepted):
                self._accept(commit, result, pending)
                committed = sum(isinstance(step, Absorbed) for step in commit.steps)
                gave_up = len(commit.steps) - committed
                seconds = monotonic() - began
                counts = (len(asks), len(commit.reads), committed, gave_up, self._duplicates)
                self._observe(BatchCommitted(self.partition, *counts, attempt, seconds))
                return
            self._refused(result)
            self._answer_known(pending, result.known)
            for workflow_key in result.stale:
                self._cache.drop(workflow_key)
            if result.stale:
                attempt += 1
                await asyncio.sleep(next(waits_ms) / 1000)

    async def _look_up_seen(self, pending: dict[ActionName, list[Asked]]) -> None:
        """Answer what hints name and the database knows, before anything is folded."""
        ids = [action_id for _, action_id in pending]
        seen = self._recent_ids.seen(ids)
        if self._hints is not None and len(seen) < len(ids):
            seen.update(await self._hints.seen([each for each in ids if each not in seen]))
        if not seen:
            return
        names = [name for name in pending if name[1] in seen]
        with suppress(BridgeError):  # whatever it is, the commit meets it too, and decides
            known = await self._outcomes.recall(self.partition, names)
            self._observe(HintsFollowed(self.partition, len(names), len(known)))
            self._answer_known(pending, known)

    async def _attempt(
        self, pending: dict[ActionName, list[Asked]], move: Move | None, attempt: int
    ) -> tuple[Commit, Accepted | Refusal]:
        """Fold and commit; the last attempt holds the partition, so that contention cannot win."""
        if attempt < self._backoff.attempts:
            return await self._fold_and_commit(self._store, pending, move, attempt)
        async with self._store.locked(self.partition) as locked:
            known = await locked.recall(list(pending))
            self._answer_known(pending, known)
            self._cache.clear()
            return await self._fold_and_commit(locked, pending, move, attempt)

    async def _fold_and_commit(
        self,
        store: CanonicalStore | LockedPartition,
        pending: Mapping[ActionName, list[Asked]],
        move: Move | None,
        attempt: int,
    ) -> tuple[Commit, Accepted | Refusal]:
        by_key: dict[str, list[Asked]] = {}
        for (workflow_key, _), asks in pending.items():
            by_key.setdefault(workflow_key, []).append(asks[0])
        started_from = await self._snapshots(store, by_key)
        _require_small(
            sum(
                len(firsts) * len(started_from[workflow_key].state)
                + sum([len(ask.action.payload) for ask in firsts])
                for workflow_key, firsts in by_key.items()
            ),
            pending,
        )
        committed_at = self._clock()
        steps: list[Step] = []
        size = 0
        led_to: dict[str, Snapshot] = {}
        for workflow_key, firsts in by_key.items():
            snapshot = started_from[workflow_key]
            if firsts[0].refusal is not None:  # it is alone: see _split
                refusal, action = firsts[0].refusal, firsts[0].action
                steps.append(Refused(action, "invalid", refusal, snapshot.version, False))
                continue
            key_type = self._key_types.get(key_type_of(workflow_key))
            actions = (ask.action for ask in firsts)
            led_to[workflow_key], made = fold(
                snapshot, actions, key_type, self._codec, committed_at
            )
            steps += made
            size += _bytes_of(made, led_to[workflow_key])
            _require_small(size, pending)
        reads = {workflow_key: snapshot.version for workflow_key, snapshot in started_from.items()}
        effect_id = self._new_id()
        commit = Commit(
            self.partition, self.owner, reads, steps, committed_at, effect_id, move, attempt
        )
        result = await store.commit(commit)
        if isinstance(result, Accepted):
            for workflow_key, snapshot in led_to.items():
                self._cache.put(workflow_key, snapshot)
        return commit, result

    async def _snapshots(
        self, store: CanonicalStore | LockedPartition, keys: Iterable[str]
    ) -> dict[str, Snapshot]:
        found = {workflow_key: self._cache.get(workflow_key) for workflow_key in keys}
        missing = [workflow_key for workflow_key, snapshot in found.items() if snapshot is None]
        stored = await store.read(missing) if missing else {}
        return {
            workflow_key: snapshot or stored.get(workflow_key, NEVER_SEEN)
            for workflow_key, snapshot in found.items()
        }

    def _accept(
        self, commit: Commit, accepted: Accepted, pending: Mapping[ActionName, list[Asked]]
    ) -> None:
        """The commit is durable: remember where we are, tell, and answer every asker."""
        if commit.position is not None:
            self._position = commit.position.next
        self._committed(commit, accepted)
        self._decided([step.action.action_id for step in commit.steps])
        for outcome in outcomes_of(commit, accepted):
            first, *others = pending[outcome.workflow_key, outcome.action_id]
            self._tell(first, outcome)
            if others:
                asked = content_hash(first.action.type, first.action.payload)
                self._tell_again(others, outcome, asked)

    def _refused(self, refusal: Refusal) -> None:
        stale, known = len(refusal.stale), len(refusal.known)
        self._observe(CommitRefused(self.partition, refusal.not_owner, refusal.moved, stale, known))
        if refusal.not_owner or refusal.moved:
            self._observe(OwnershipChanged(self.partition, "lost"))
            raise ownership_lost(self.partition, refusal)

    def _answer_known(
        self, pending: dict[ActionName, list[Asked]], known: Mapping[ActionName, Remembered]
    ) -> None:
        """Answer with first outcomes, and take these actions out of `pending`."""
        self._decided([action_id for _, action_id in known])
        for name, remembered in known.items():
            asks = pending.get(name)
            if asks and settles(remembered, asks[0].action):
                del pending[name]
                self._tell_again(asks, remembered.outcome, remembered.request_hash)

    def _decided(self, ids: Sequence[UUID]) -> None:
        self._recent_ids.remember(ids)
        if self._hints is not None:
            self._hints.remember(ids)

    def _tell_again(self, asks: Iterable[Asked], outcome: Outcome, request_hash: str) -> None:
        """Tell the first outcome to those who ask the same; another content is `id_reused`."""
        for ask in asks:
            self._duplicates += 1
            self._tell(ask, told_again(ask.action, outcome, request_hash))

    def _tell(self, ask: Asked, outcome: Outcome) -> None:
        if ask.future is None:
            self._answer(ask.action, outcome)
        elif not ask.future.done():
            ask.future.set_result(outcome)

    async def _read_back(
        self, pending: dict[ActionName, list[Asked]], move: Move | None
    ) -> Move | None:
        """After a lost connection: learn what became of the batch; return the move still to make.

        The lock comes first: it waits for the old backend, which may still be running.
        """
        self._cache.clear()
        names = list(pending)

        async def recall() -> Mapping[ActionName, Remembered]:
            async with self._store.locked(self.partition) as locked:
                return await locked.recall(names)

        self._answer_known(pending, await self._patiently(recall))
        if move is None:
            return None
        position = await self._patiently(partial(self._action_log.position, self.partition))
        if position == move.expected:
            return move
        if position != move.next:
            self._refused(Refusal(moved=True))
        # The commit did happen. What came by the log is done, remembered or not (R3: positions).
        self._position = position
        for name, asks in list(pending.items()):
            pending[name] = [ask for ask in asks if ask.offset is None]
            if not pending[name]:
                del pending[name]
        return None

    async def _split(
        self, asks: list[Asked], move: Move | None, error: ValueRefused | BatchTooBig
    ) -> None:
        """Halve the batch: it is too big, or holds a value that the database refuses.

        The culprit of a refusal is alone in the end, and is given up.
        """
        names = list(dict.fromkeys(ask.name for ask in asks))
        if len(names) == 1:
            if asks[0].refusal is not None:
                raise error  # not even the give-up can be stored: that is not the action's fault
            for ask in asks:
                ask.refusal = str(error)
            await self._settle(asks, None if move is None else move.next)
            return
        first = set(names[: len(names) // 2])
        # Only the last part moves the position: should we die before it, the log's entries are read
        # again, and those of the first parts are found by their ids.
        await self._settle([ask for ask in asks if ask.name in first], None)
        following = None if move is None else move.next
        await self._settle([ask for ask in asks if ask.name not in first], following)

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


def _behind(asks: Iterable[Asked]) -> int | None:
    """Return the position behind the last of `asks` that came by the log."""
    offsets = [ask.offset for ask in asks if ask.offset is not None]
    return offsets[-1] + 1 if offsets else None


def _require_small(size: int, actions: Sized) -> None:
    """Refuse to fold or to commit too much at once; one action is never too much."""
    if size > BATCH_BYTES_MAX and len(actions) > 1:
        raise BatchTooBig(f"{len(actions)} actions come to {size} bytes")


def _bytes_of(steps: Iterable[Step], led_to: Snapshot) -> int:
    """Return about how much a commit has to carry for a key: its state, intents, projections."""
    size = len(led_to.state)
    for step in steps:
        if isinstance(step, Absorbed):
            projection = step.projection
            size += len(projection.indices or b"") + len(projection.extras or b"")
            for intent in step.intents:
                size += len(intent.payload)
    return size
