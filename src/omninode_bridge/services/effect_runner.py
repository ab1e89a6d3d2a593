"""Carries out effects: calls handlers for the intents of one partition, and makes the ends durable.

Rule 1: at least once (R10). Die anywhere before an end is durable, and the handler is called again
        with the same intent id; afterwards, never. What follows from an end is written with it.
Rule 2: nothing slow holds up others: a failed effect waits outside of the log (parked), and so does
        what would fill the window while other types could go on. A type has its own slots.
Rule 3: who is no longer the owner makes no end durable (R12) and stops.

What is not over when the process ends is still in the log behind the position, or parked.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal, TypeVar
from uuid import UUID

from omninode_bridge.core.effect_attempt import call_of, raised
from omninode_bridge.core.effect_window import EffectWindow, Place
from omninode_bridge.core.effects import (
    EndedEffect,
    OpenEffect,
    ParkedEffect,
    done,
    ended_badly,
)
from omninode_bridge.core.errors import (
    BridgeError,
    BrokenPromise,
    DatabaseUnavailable,
    EffectRefused,
    ValueRefused,
)
from omninode_bridge.core.message import CANCEL_EFFECT
from omninode_bridge.core.observation import (
    EffectAttempted,
    EffectsSettled,
    LoopStumbled,
    ignore,
)
from omninode_bridge.core.reducer import DETAIL_CHARS_MAX, storable
from omninode_bridge.core.retry import OUTAGE_BACKOFF
from omninode_bridge.ports import CutOff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from omninode_bridge.core.effect_types import EffectCall, EffectType
    from omninode_bridge.core.effects import EffectStatus, LoggedIntent
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.core.slots import Slots
    from omninode_bridge.ports import Clock, EffectEnds, EffectLog, ParkedEffects

_T = TypeVar("_T")

PAGE_MAX: Final = 500
SETTLE_MAX: Final = 500
POLL_S: Final = 1.0
DUE_AGAIN_S: Final = 0.02
BUSY_AGAIN_S: Final = 0.1
STOP_WAIT_S: Final = 5.0
OUTAGE_WAIT_S: Final = 1.0


class _Undone(BridgeError):
    """Undo what a handler wrote: it failed, it had ended before, or the partition is another's."""


class _NotBegun(BridgeError):
    """No transaction could be had for a handler: it was not called."""


class EffectRunner:
    """The effects of one partition. `run` it in a task; `followed` is told that intents grew."""

    def __init__(
        self,
        partition: int,
        owner: UUID | None,
        *,
        types: Mapping[str, EffectType],
        slots: Slots,
        log: EffectLog,
        parked: ParkedEffects,
        ends: EffectEnds,
        codec: Codec,
        clock: Clock,
        uniform: Uniform,
        followed: Callable[[], None] = lambda: None,
        observe: Observe = ignore,
    ) -> None:
        """Take what it needs of the world; nothing happens before `run`."""
        self.partition = partition
        self._owner = owner
        self._types = types
        self._ordered = [name for name, effect_type in types.items() if effect_type.ordered]
        self._slots = slots
        self._log = log
        self._parked = parked
        self._ends = ends
        self._codec = codec
        self._clock = clock
        self._uniform = uniform
        self._followed = followed
        self._observe = observe
        self._window = EffectWindow(1, ())
        self._over: set[int] = set()
        self._effects: dict[int, OpenEffect] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._begun: set[int] = set()
        self._cancelling: set[int] = set()
        self._cancels: dict[int, list[int]] = {}
        self._passed: list[int] = []
        self._to_end: list[EndedEffect] = []
        self._to_park: list[ParkedEffect] = []
        self._position = self._head = 1
        self._next_due = 0.0
        self._next_read = 0.0
        self._stopping = False
        self._halted = False
        self._wake = asyncio.Event()

    def intents_grew(self) -> None:
        """Look at the log now rather than at the next poll."""
        self._next_read = 0.0
        self._wake.set()

    def stop(self) -> None:
        """Start nothing more; `run` ends when what is under way has ended, or after a while."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Carry out effects until stopped, or until the partition is another's.

        May be called again after it has raised: it begins from what is durable.

        Raises:
            BrokenPromise: intents were cut off that had not been looked at.
        """
        try:
            await self._begin()
            while not self._stopping:
                self._wake.clear()
                await self._read()
                await self._take_due()
                self._start()
                if not await self._settle():
                    return
                await self._wait()
            await self._finish()
        except DatabaseUnavailable:
            if not self._stopping:
                raise
        finally:
            self._halted = True
            self._slots.forget(self._wake.set)
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _begin(self) -> None:
        self._halted = False
        self._slots.listen(self._wake.set)
        self._next_due = self._next_read = 0.0
        for in_hand in (self._effects, self._begun, self._cancelling, self._cancels, self._passed):
            in_hand.clear()
        self._to_end, self._to_park = [], []
        begun = await self._patiently(partial(self._log.begin, self.partition, self._ordered))
        self._window = EffectWindow(begun.position, self._ordered, begun.waiting)
        self._position, self._head = begun.position, begun.head
        self._over = set(begun.over)

    # -- taking in -----------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read on while there is room."""
        for offset in self._window.crowded_out(self._slots.has_room, self._types):
            if offset in self._effects:  # not parked meanwhile, with one before it in its lane
                self._park(ParkedEffect(self._effects[offset], 0, ""))
        if monotonic() < self._next_read:
            return
        while self._window.has_room:
            self._next_read = monotonic() + POLL_S
            position = self._window.reading
            page = await self._patiently(
                partial(self._log.read, self.partition, position, PAGE_MAX)
            )
            if isinstance(page, CutOff):
                message = (
                    f"the intents of partition {self.partition} begin at {page.low}, but its"
                    f" effects have only come to {position}"
                )
                raise BrokenPromise(message)
            for entry in page.entries:
                await self._admit(entry)
                self._window.reading = entry.offset + 1
            self._window.reading = page.following
            if len(page.entries) < PAGE_MAX:
                return
        self._next_read = 0.0  # as soon as there is room

    async def _admit(self, entry: LoggedIntent) -> None:
        if entry.offset in self._over:
            self._over.discard(entry.offset)
            return
        intent = entry.intent
        if intent.intent_type == CANCEL_EFFECT:
            # Were the position to pass it before its effect has ended, a crash would forget it.
            self._window.pass_by(entry.offset)
            ending = await self._cancel(UUID(intent.target))
            if ending is None:
                self._passed.append(entry.offset)
            else:
                self._cancels.setdefault(ending, []).append(entry.offset)
            return
        effect = OpenEffect(entry, maybe_begun=entry.offset < self._head)
        due_at = entry.due_at
        if due_at is not None or intent.intent_type not in self._types:
            # It is given out when it is due by the database's clock. By ours, which may be wrong,
            # it only goes before those of its lane that come from the log.
            if due_at is not None and due_at <= self._clock():
                self._window.wait_outside(_place(effect))
            else:
                self._window.pass_by(entry.offset)
            self._to_park.append(ParkedEffect(effect, 0, "", due_at))
        else:
            self._take(effect)

    def _take(self, effect: OpenEffect) -> None:
        self._effects[effect.entry.offset] = effect
        if not self._window.admit(_place(effect)):
            self._park(ParkedEffect(effect, effect.attempts, ""))

    async def _take_due(self) -> None:
        """Take in parked effects that are due, as many as there are slots for."""
        if not self._types or monotonic() < self._next_due:
            return
        rooms = {
            name: room
            for name in self._types
            if (room := self._slots.room(name) - self._window.queued(name)) > 0
        }
        busy = [*self._window.offsets, *(p.effect.entry.offset for p in self._to_park)]
        busy += [end.effect.entry.offset for end in self._to_end]
        due = partial(self._parked.due, self.partition, rooms, self._ordered, busy)
        effects, next_s = await self._patiently(due)
        for effect in effects:
            self._take(effect)
        # Where no slot was free there may be more.
        wait_s = BUSY_AGAIN_S if len(rooms) < len(self._types) else POLL_S
        if effects:
            wait_s = DUE_AGAIN_S
        if next_s is not None:
            wait_s = min(wait_s, max(0.0, next_s))
        self._next_due = monotonic() + wait_s

    async def _cancel(self, intent_id: UUID) -> int | None:
        """Try an effect no more; return the offset of the one that ends by that, or is ending.

        None: it is over and stays so, or is nobody's here; its answer is on its way already.
        """
        for end in self._to_end:
            if end.effect.entry.intent.intent_id == intent_id:
                return end.effect.entry.offset
        place = self._window.get(intent_id)
        if place is not None and self._window.is_started(place.offset):
            self._cancelling.add(place.offset)
            # A task that is cancelled before its first step would end without a word; this one
            # finds out by itself that it is not to call its handler.
            if place.offset in self._begun:
                self._tasks[place.offset].cancel()
            return place.offset
        effect = None if place is None else self._effects[place.offset]
        for wait in list(self._to_park):  # it is about to be parked
            if wait.effect.entry.intent.intent_id == intent_id:
                self._to_park.remove(wait)
                effect = replace(wait.effect, attempts=wait.attempts)
        if effect is None:
            effect = await self._patiently(partial(self._parked.find, self.partition, intent_id))
        if effect is None:
            return None
        self._end(ended_badly(effect, "cancelled", effect.attempts, "cancelled", self._codec))
        lane = (effect.entry.intent.intent_type, effect.entry.workflow_key)
        self._window.left(lane, effect.entry.offset)
        return effect.entry.offset

    # -- one attempt ---------------------------------------------------------------------------

    def _start(self) -> None:
        """Start what there is a slot for."""
        if self._stopping or self._halted:
            return
        for offset in self._window.start(self._slots.take):
            effect = self._effects[offset]
            name = f"{effect.entry.intent.intent_type} {effect.entry.intent.intent_id}"
            task = asyncio.create_task(self._attempt(effect), name=name)
            self._tasks[offset] = task
            # Whatever ends it, even before its first step, its slot comes back.
            task.add_done_callback(partial(self._attempted, effect))

    def _attempted(self, effect: OpenEffect, _: asyncio.Task[None]) -> None:
        offset = effect.entry.offset
        self._tasks.pop(offset, None)
        self._begun.discard(offset)
        self._cancelling.discard(offset)
        self._slots.give_back(effect.entry.intent.intent_type)
        self._wake.set()
        self._start()  # the loop may wait for the database: ends gather for the next batch

    async def _attempt(self, effect: OpenEffect) -> None:
        offset = effect.entry.offset
        effect_type = self._types[effect.entry.intent.intent_type]
        if offset in self._cancelling:
            self._end(ended_badly(effect, "cancelled", effect.attempts, "cancelled", self._codec))
            return
        self._begun.add(offset)
        attempt, began = effect.attempts + 1, monotonic()
        said: Literal["failed"] | EffectStatus
        try:
            said = await self._call(effect, effect_type, attempt)
        except KeyboardInterrupt:  # a person's word, not the handler's
            raise
        except BaseException as error:  # sys.exit() too: it ends this attempt only
            ending = self._halted or self._stopping
            if ending and offset not in self._cancelling and not isinstance(error, EffectRefused):
                raise  # it is still in the log, or parked: closing costs nobody an attempt
            if isinstance(error, _NotBegun):
                detail = storable(str(error))[:DETAIL_CHARS_MAX]
                self._park(ParkedEffect(effect, effect.attempts, detail, None, OUTAGE_WAIT_S))
                said = "failed"  # an outage before the handler was called is no attempt of its
            else:
                said = self._raised(effect, effect_type, attempt, error)
        seconds = monotonic() - began
        self._observe(EffectAttempted(self.partition, effect_type.name, attempt, said, seconds))

    async def _call(
        self, effect: OpenEffect, effect_type: EffectType, attempt: int
    ) -> EffectStatus:
        call = call_of(effect, effect_type, attempt, self._codec)
        if effect_type.transactional:
            return await self._call_in_transaction(effect, effect_type, call)
        async with asyncio.timeout(effect_type.timeout_s):
            returned = await effect_type.handle(call)
        return self._end(done(effect, attempt, returned, self._codec))

    async def _call_in_transaction(
        self, effect: OpenEffect, effect_type: EffectType, call: EffectCall
    ) -> EffectStatus:
        """Commit what the handler writes together with the end of the effect, or neither.

        Raises:
            _NotBegun: an outage before the handler was called.
        """
        failure: BaseException | None = None
        called = False
        try:
            with suppress(_Undone):
                async with self._ends.transaction(self.partition, self._owner) as transaction:
                    called = True
                    try:
                        async with asyncio.timeout(effect_type.timeout_s):
                            returned = await effect_type.handle(call, transaction.connection)
                        ended = done(effect, call.attempt, returned, self._codec)
                    except BaseException as error:
                        failure = error
                        raise _Undone from error
                    if await transaction.end(ended) != "ended":
                        raise _Undone
        except DatabaseUnavailable as error:
            # Once it was called it is an attempt: a handler that loses its connection each time
            # would be called for ever.
            if not called:
                raise _NotBegun(str(error)) from error
            failure = failure or error
        if failure is not None:
            raise failure
        self._forget(effect)
        self._window.settled(self._with_cancels([effect.entry.offset]))
        self._followed()
        return "done"

    def _raised(
        self, effect: OpenEffect, effect_type: EffectType, attempt: int, error: BaseException
    ) -> Literal["failed"] | EffectStatus:
        became = raised(
            *(effect, effect_type, attempt, error, self._codec, self._uniform),
            is_cancelled=effect.entry.offset in self._cancelling,
        )
        match became:
            case EndedEffect() as end:
                return self._end(end)
            case ParkedEffect() as wait:
                self._park(wait)
                return "failed"

    def _end(self, end: EndedEffect) -> EffectStatus:
        self._forget(end.effect)
        self._to_end.append(end)
        return end.status

    def _forget(self, effect: OpenEffect) -> None:
        if self._effects.pop(effect.entry.offset, None) is not None:
            self._window.over(effect.entry.offset)

    def _park(self, wait: ParkedEffect) -> None:
        offset = wait.effect.entry.offset
        followers = self._window.park(offset)
        del self._effects[offset]
        self._to_park.append(wait)
        for follower in followers:
            self._to_park.append(ParkedEffect(self._effects.pop(follower), 0, ""))
        self._next_due = min(self._next_due, monotonic() + wait.due_in_s)

    # -- settling ------------------------------------------------------------------------------

    async def _settle(self) -> bool:
        """Make durable what ended, what is parked, and the position; False: not the owner."""
        self._window.settled(self._passed)
        self._passed.clear()
        while self._to_end or self._to_park or self._window.position > self._position:
            ended, self._to_end = self._to_end[:SETTLE_MAX], self._to_end[SETTLE_MAX:]
            parked, self._to_park = self._to_park[:SETTLE_MAX], self._to_park[SETTLE_MAX:]
            if not await self._settle_batch(ended, parked):
                return False
        return True

    async def _settle_batch(self, ended: list[EndedEffect], parked: list[ParkedEffect]) -> bool:
        offsets = {*self._with_cancels([end.effect.entry.offset for end in ended])}
        offsets |= {wait.effect.entry.offset for wait in parked}
        position = self._window.position_without(offsets)
        settle = partial(self._ends.settle, self.partition, self._owner, ended, parked, position)
        try:
            is_owner = await self._patiently(settle)
        except ValueRefused as error:
            return await self._settle_apart(ended, parked, error)
        if is_owner:
            self._window.settled(offsets)
            if any(wait.due_at is not None for wait in parked):
                self._next_due = 0.0  # it may be due already
            for end in ended:
                self._cancels.pop(end.effect.entry.offset, None)
            self._position = max(self._position, position)
            if any(end.follow_ups for end in ended):
                self._followed()
            unhandled = sum(p.effect.entry.intent.intent_type not in self._types for p in parked)
            counts = (len(ended), len(parked), unhandled)
            self._observe(EffectsSettled(self.partition, *counts, self._position))
        return is_owner

    def _with_cancels(self, ended: list[int]) -> list[int]:
        """Return the offsets of what has ended, and of the cancellations that waited for that."""
        return [*ended, *(n for offset in ended for n in self._cancels.get(offset, ()))]

    async def _settle_apart(
        self, ended: list[EndedEffect], parked: list[ParkedEffect], error: ValueRefused
    ) -> bool:
        """Find the one that the database refuses: it is dead, and its neighbours go on."""
        if len(ended) + len(parked) > 1:
            for end in ended:
                if not await self._settle_batch([end], []):
                    return False
            for wait in parked:
                if not await self._settle_batch([], [wait]):
                    return False
            return True
        one: EndedEffect | ParkedEffect = ended[0] if ended else parked[0]
        if isinstance(one, EndedEffect) and one.status == "dead":
            raise error  # not even its end can be stored
        detail = storable(str(error))[:DETAIL_CHARS_MAX]
        dead = ended_badly(one.effect, "dead", one.attempts, detail, self._codec)
        self._effects.pop(one.effect.entry.offset, None)
        return await self._settle_batch([dead], [])

    async def _wait(self) -> None:
        until = self._next_read if self._window.has_room else monotonic() + POLL_S
        if self._types:
            until = min(until, self._next_due)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - monotonic())):
                await self._wake.wait()

    async def _finish(self) -> None:
        """Let what is under way end, for a while; make all ends durable."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=STOP_WAIT_S)
        with suppress(DatabaseUnavailable):
            await self._settle()

    async def _patiently(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Call until the database answers; when we stop, once only."""
        waits_ms = OUTAGE_BACKOFF.waits_ms(self._uniform)
        for attempt in count(1):
            try:
                return await call()
            except DatabaseUnavailable as error:
                self._observe(LoopStumbled("effects", self.partition, attempt, error))
                if self._stopping:
                    raise
                await asyncio.sleep(next(waits_ms) / 1000)
        raise AssertionError  # pragma: no cover - count() does not end


def _place(effect: OpenEffect) -> Place:
    entry, intent = effect.entry, effect.entry.intent
    names = (intent.intent_id, intent.intent_type, entry.workflow_key)
    return Place(entry.offset, *names, effect.parked)
