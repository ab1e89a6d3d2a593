"""Attempts under way: each calls a handler once, in a task of its own and a slot of its type."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from omninode_bridge.core.effect_attempt import OutOfTime, call_of, raised
from omninode_bridge.core.effects import EndedEffect, ParkedEffect, done, ended_badly
from omninode_bridge.core.errors import EffectRefused
from omninode_bridge.core.observation import EffectAttempted, EffectsLeft, LoopStumbled
from omninode_bridge.core.reducer import DETAIL_CHARS_MAX, storable
from omninode_bridge.services.effect_runner.transaction import NotBegun, end_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from omninode_bridge.core.effect_types import EffectType
    from omninode_bridge.core.effects import EffectStatus, OpenEffect
    from omninode_bridge.core.effects_in_hand import EffectsInHand
    from omninode_bridge.services.effect_runner.world import EffectWorld

_T = TypeVar("_T")

OUTAGE_WAIT_S: Final = 1.0
CANCEL_WAIT_S: Final = 2.0
"""How long a handler that is cancelled may tidy up before it is left (R13)."""


class Attempts:
    """Starts attempts of what is in hand, and puts into hand what became of them."""

    def __init__(
        self, world: EffectWorld, hand: EffectsInHand, changed: Callable[[], None]
    ) -> None:
        """Begin with none under way; `changed` is told after each."""
        self._world = world
        self._hand = hand
        self._changed = changed
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._begun: set[int] = set()
        self._cancelling: set[int] = set()
        self._ending = False

    def start(self) -> None:
        """Start what there is a slot for."""
        if self._ending:
            return
        for offset in self._hand.window.start(self._world.slots.take):
            effect = self._hand[offset]
            name = f"{effect.entry.intent.intent_type} {effect.entry.intent.intent_id}"
            task = asyncio.create_task(self._attempt(effect), name=name)
            self._tasks[offset] = task
            # Whatever ends it, even before its first step, its slot comes back.
            task.add_done_callback(partial(self._attempted, effect))

    def cancel(self, offset: int) -> None:
        """Cancel the attempt under way of the effect at `offset`, which is tried no more."""
        self._cancelling.add(offset)
        # A task that is cancelled before its first step would end without a word; this one finds
        # out by itself that it is not to call its handler.
        if offset in self._begun:
            self._tasks[offset].cancel()

    def end(self) -> None:
        """Start nothing more; who fails from now on was interrupted."""
        self._ending = True

    async def ended(self, wait_s: float) -> None:
        """Let what is under way end, for so many seconds."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=wait_s)

    async def halt(self) -> None:
        """Cancel what is under way, and leave those that go on all the same.

        Those keep their slots until they end. They have been begun and have no end: whoever owns
        the partition next begins them again.
        """
        self.end()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _ended, left = await asyncio.wait(tasks, timeout=CANCEL_WAIT_S)
        if left:
            names = tuple(sorted(task.get_name() for task in left))
            self._world.observe(EffectsLeft(self._world.partition, names))

    def _attempted(self, effect: OpenEffect, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and not self._ending:  # not the handler's: ours
            self._world.observe(LoopStumbled("effects", self._world.partition, 1, error))
        offset = effect.entry.offset
        self._tasks.pop(offset, None)
        self._begun.discard(offset)
        self._cancelling.discard(offset)
        self._world.slots.give_back(effect.entry.intent.intent_type)
        self._changed()
        self.start()  # the loop may wait for the database: ends gather for the next batch

    async def _attempt(self, effect: OpenEffect) -> None:
        offset, codec = effect.entry.offset, self._world.codec
        effect_type = self._world.types[effect.entry.intent.intent_type]
        if offset in self._cancelling:
            self._hand.end(ended_badly(effect, "cancelled", effect.attempts, "cancelled", codec))
            return
        self._begun.add(offset)
        attempt, began = effect.attempts + 1, monotonic()
        said: Literal["failed"] | EffectStatus
        try:
            said = await self._call(effect, effect_type, attempt)
        except KeyboardInterrupt:  # a person's word, not the handler's
            raise
        except BaseException as error:  # sys.exit() too: it ends this attempt only
            interrupted = self._ending and offset not in self._cancelling
            if interrupted and not isinstance(error, EffectRefused):
                raise  # it is still in the log, or parked: closing costs nobody an attempt
            said = self._raised(effect, effect_type, attempt, error)
        told = (self._world.partition, effect_type.name, attempt, said, monotonic() - began)
        self._world.observe(EffectAttempted(*told))

    async def _call(
        self, effect: OpenEffect, effect_type: EffectType, attempt: int
    ) -> EffectStatus:
        call = call_of(effect, effect_type, attempt, self._world.codec)

        async def carry_out(*connection: Any) -> EndedEffect:  # noqa: ANN401 - the driver's, if any
            returned = await _within(effect_type.timeout_s, effect_type.handle(call, *connection))
            return done(effect, attempt, returned, self._world.codec)

        if not effect_type.transactional:
            return self._hand.end(await carry_out())
        over = await end_in(
            self._world.ends.transaction(self._world.partition, self._world.owner), carry_out
        )
        if over is not None:
            return self._hand.end(over)
        self._hand.ended_durably(effect)
        self._world.followed()
        return "done"

    def _raised(
        self, effect: OpenEffect, effect_type: EffectType, attempt: int, error: BaseException
    ) -> Literal["failed"] | EffectStatus:
        if isinstance(error, NotBegun):  # that is no attempt of the handler's
            detail = storable(str(error))[:DETAIL_CHARS_MAX]
            self._hand.park(ParkedEffect(effect, effect.attempts, detail, None, OUTAGE_WAIT_S))
            return "failed"
        became = raised(
            *(effect, effect_type, attempt, error, self._world.codec, self._world.uniform),
            is_cancelled=effect.entry.offset in self._cancelling,
        )
        match became:
            case EndedEffect() as end:
                return self._hand.end(end)
            case ParkedEffect() as wait:
                self._hand.park(wait)
                return "failed"


async def _within(seconds: float, handling: Awaitable[_T]) -> _T:
    """Return what a handler returns.

    Raises:
        OutOfTime: it had no end within its time.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            return await handling
    except TimeoutError as error:
        if limit.expired():
            raise OutOfTime from error
        raise
