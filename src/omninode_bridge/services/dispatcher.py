"""Carries follow-up actions from the intents of one partition to the action logs of all (R10).

Rule 1: only the dispatcher crosses partitions, and each of its transactions writes to one (R11).
Rule 2: an intent nobody handles yet stays in the log and is counted; nothing is thrown away.

Exactly once: each target partition keeps how far it has taken over from each source, in the
transaction that appends, and skips what lies below. Die before it: the entries are dispatched
again. Die after it: they are skipped. Two dispatchers at once: the second finds the position moved,
and appends nothing.

What a target refuses for a value in it stops nobody: the page is halved until that follow-up is
alone, and in its place, under its id, goes an action whose payload is a text that says why. It is
no JSON object, so its owner gives it up as `invalid`, visibly, and its asker is told (R4). Should
even that be refused, the loop stumbles there, and nothing is lost. Each part of a page moves the
position to where the next one begins, so dying in between changes nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from omninode_bridge.core.errors import BrokenPromise, DatabaseUnavailable, ValueRefused
from omninode_bridge.core.message import (
    ACTION_ANSWERED,
    FOLLOW_UPS,
    NEW_CHAIN_S,
    REMEMBER_S,
    SealedAction,
)
from omninode_bridge.core.observation import IntentsDispatched, LoopStumbled, ignore
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.reducer import storable
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.ports import CutOff, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from omninode_bridge.core.effects import LoggedIntent
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.ports import ActionLog, IntentLog

_NEW_CHAIN: Final = timedelta(seconds=NEW_CHAIN_S)
BATCH_MAX: Final = 1_000
POLL_S: Final = 1.0
LAG_MAX: Final = 10_000
"""A target for which there was nothing is told the position this often, or when all is quiet."""

WHY_CHARS_MAX: Final = 500
UNTOLD_MAX: Final = 10
"""While there is work, who waits for us to settle waits for so many pages."""


class Dispatcher:
    """The dispatcher of one source partition. `run` it in a task.

    `appended` is told each target partition whose action log has grown.
    """

    def __init__(
        self,
        partition: int,
        *,
        partitions: int,
        intents: IntentLog,
        actions: ActionLog,
        codec: Codec,
        uniform: Uniform,
        appended: Callable[[int], None] = lambda _: None,
        observe: Observe = ignore,
    ) -> None:
        """Take what it needs of the world; nothing happens before `run`."""
        self.partition = partition
        self._partitions = partitions
        self._intents = intents
        self._actions = actions
        self._codec = codec
        self._uniform = uniform
        self._appended = appended
        self._observe = observe
        self._stored: dict[int, int] = {}
        self._next = 0
        self._just_read = False
        self._page = BATCH_MAX
        self._settle_now = False
        self._stopping = False
        self._hint = asyncio.Event()

    def intents_grew(self) -> None:
        """Look at the intents now rather than at the next poll."""
        self._hint.set()

    def settle(self) -> None:
        """Store the position in every partition soon, whatever is left to dispatch."""
        self._settle_now = True
        self._hint.set()

    def stop(self) -> None:
        """End `run` once the intents that are there have been looked at."""
        self._stopping = True
        self._hint.set()

    async def run(self) -> None:
        """Dispatch until stopped.

        Raises:
            BrokenPromise: intents were cut off that a partition had not taken over.
        """
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._uniform)
        attempt = untold = 0
        while True:
            try:
                if not self._stored:
                    self._stored = dict(await self._intents.positions(self.partition))
                    self._next = min(self._stored.values())
                    self._just_read = True
                self._hint.clear()
                busy = await self._step()
                untold = untold + 1 if busy else 0
                if (self._stopping and not busy) or (self._settle_now and untold % UNTOLD_MAX == 0):
                    self._settle_now = False
                    await self._catch_up()
                if busy:
                    self._page = min(BATCH_MAX, self._page * 2)
                    attempt, waits_ms = 0, OUTAGE_BACKOFF.waits_ms(self._uniform)
                    continue
                if self._stopping:
                    return
                try:
                    async with asyncio.timeout(POLL_S):
                        await self._hint.wait()
                except TimeoutError:
                    await self._catch_up()
            except DatabaseUnavailable as error:
                attempt += 1
                self._stored = {}  # positions may have moved: unknown
                self._page = max(1, self._page // 2)  # perhaps it was too much for one message
                self._observe(LoopStumbled("dispatcher", self.partition, attempt, error))
                await asyncio.sleep(next(waits_ms) / 1000)

    async def _step(self) -> bool:
        """Look at one page; return whether there was anything in it.

        We read from the lowest stored position after a start, and on from what we have read since.
        """
        page = await self._intents.read(self.partition, self._next, self._page)
        if isinstance(page, CutOff):
            if not self._just_read:  # another dispatcher has come further while we stood still
                self._stored = {}
                return True
            message = (
                f"the intents of partition {self.partition} begin at {page.low},"
                f" but some partition has only taken over those before {self._next}"
            )
            raise BrokenPromise(message)
        self._just_read = False
        if not page:
            return False
        following = page[-1].offset + 1
        submitted = await self._take_over(page, following)
        self._next = following
        if following - min(self._stored.values()) > LAG_MAX:
            await self._catch_up()
        others = sum(entry.intent.intent_type not in FOLLOW_UPS for entry in page)
        self._observe(IntentsDispatched(self.partition, len(page), submitted, others))
        return True

    async def _take_over(self, page: Sequence[LoggedIntent], following: int) -> int:
        follow_ups: dict[int, list[tuple[int, SealedAction]]] = {}
        for entry in page:
            if entry.intent.intent_type in FOLLOW_UPS:
                target = partition_of(entry.intent.target, self._partitions)
                follow_ups.setdefault(target, []).append((entry.offset, self._action(entry)))
        submitted = 0
        for target, numbered in follow_ups.items():
            submitted += await self._append(target, numbered, following)
            self._stored[target] = following
            self._appended(target)
        return submitted

    async def _append(
        self, target: int, numbered: Sequence[tuple[int, SealedAction]], following: int
    ) -> int:
        """Append all that can be stored, and give-ups in place of the rest."""
        source = Source(self.partition, following, [offset for offset, _ in numbered])
        actions = [action for _, action in numbered]
        try:
            return await self._actions.append(target, actions, source)
        except ValueRefused as error:
            if len(numbered) == 1:
                self._observe(LoopStumbled("dispatcher", self.partition, 1, error))
                in_its_place = self._given_up(actions[0], error)
                return await self._actions.append(target, [in_its_place], source)
        middle = len(numbered) // 2
        first, second = numbered[:middle], numbered[middle:]
        submitted = await self._append(target, first, second[0][0])
        return submitted + await self._append(target, second, following)

    def _given_up(self, action: SealedAction, error: ValueRefused) -> SealedAction:
        """Return the action that any reducer's owner gives up as `invalid`, for what it says."""
        why = storable(f"this follow-up action could not be stored: {error}")[:WHY_CHARS_MAX]
        payload = self._codec.encode(why)
        return replace(action, payload=payload, expected_version=None, purpose="apply", due_at=None)

    async def _catch_up(self) -> None:
        """Tell the targets for which there was nothing how far we are: segments wait for them."""
        for target, stored in self._stored.items():
            if stored < self._next:
                await self._actions.append(target, [], Source(self.partition, self._next, []))
                self._stored[target] = self._next

    def _action(self, entry: LoggedIntent) -> SealedAction:
        intent = entry.intent
        if intent.intent_type == ACTION_ANSWERED:
            return SealedAction(
                action_id=intent.intent_id,
                workflow_key=intent.target,
                type=ACTION_ANSWERED,
                payload=intent.payload,
                occurred_at=entry.committed_at,
                correlation_id=entry.correlation_id or entry.action_id,
                causation_id=entry.action_id,
                depth=entry.depth + 1,
            )
        body = self._codec.decode(intent.payload)
        cancels, due_at = body.get("cancels"), entry.due_at
        later = due_at is not None and due_at - entry.committed_at >= _NEW_CHAIN
        return SealedAction(
            action_id=intent.intent_id if cancels is None else UUID(cancels),
            workflow_key=body["key"],
            type=body["type"],
            payload=self._codec.encode(body["payload"]),
            # A timer happens when it is due. Whoever counts on from there begins then.
            occurred_at=entry.committed_at if due_at is None else max(entry.committed_at, due_at),
            correlation_id=entry.correlation_id or entry.action_id,
            causation_id=entry.action_id,
            depth=0 if later else entry.depth + 1,
            reply_to=intent.reply_to,
            expected_version=body.get("expected_version"),
            # The action may wait among the timers for years: its cancellation outlasts it.
            remember_s=REMEMBER_S if cancels is None else None,
            purpose="apply" if cancels is None else "cancel",
            due_at=due_at,
        )
