"""The loop of the effects of one partition: take in, start, settle, wait, until it is stopped."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.effect_window import EffectWindow
from omninode_bridge.core.effects_in_hand import EffectsInHand
from omninode_bridge.core.errors import DatabaseUnavailable
from omninode_bridge.core.observation import ignore
from omninode_bridge.ports import EffectsBegun
from omninode_bridge.services.effect_runner.attempts import Attempts
from omninode_bridge.services.effect_runner.cancellation import Cancellation
from omninode_bridge.services.effect_runner.intake import Intake, Looks
from omninode_bridge.services.effect_runner.patience import Patience
from omninode_bridge.services.effect_runner.settlement import Settlement
from omninode_bridge.services.effect_runner.world import EffectWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from omninode_bridge.core.effect_types import EffectType
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.core.slots import Slots
    from omninode_bridge.ports import Clock, EffectEnds, EffectLog, ParkedEffects

STOP_WAIT_S: Final = 5.0
_NOTHING: Final = EffectsBegun(1, 1, frozenset(), ())


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
        self._world = EffectWorld(
            partition=partition,
            owner=owner,
            types=types,
            slots=slots,
            log=log,
            parked=parked,
            ends=ends,
            codec=codec,
            clock=clock,
            uniform=uniform,
            followed=followed,
            observe=observe,
        )
        self._patience = Patience(partition, uniform, observe)
        self._stopping = False
        self._wake = asyncio.Event()
        self._take_up(_NOTHING)

    def intents_grew(self) -> None:
        """Look at the log now rather than at the next poll."""
        self._looks.log = 0.0
        self._wake.set()

    def stop(self) -> None:
        """Start nothing more; `run` ends when what is under way has ended, or after a while."""
        self._stopping = True
        self._patience.end()
        self._attempts.end()
        self._wake.set()

    async def run(self) -> None:
        """Carry out effects until stopped, or until the partition is another's.

        May be called again after it has raised: it begins from what is durable.

        Raises:
            BrokenPromise: intents were cut off that had not been looked at.
        """
        self._world.slots.listen(self._wake.set)
        try:
            begin = partial(self._world.log.begin, self.partition, self._world.ordered)
            self._take_up(await self._patience(begin))
            while not self._stopping:
                self._wake.clear()
                await self._intake.read()
                await self._intake.take_due()
                self._attempts.start()
                if not await self._settlement.settle():
                    return
                await self._wait()
            await self._finish()
        except DatabaseUnavailable:
            if not self._stopping:
                raise
        finally:
            self._world.slots.forget(self._wake.set)
            await self._attempts.halt()

    def _take_up(self, begun: EffectsBegun) -> None:
        """Begin from what is durable with nothing in hand.

        The parts are new each time: what an attempt of before comes to is put into no new hand.
        """
        world = self._world
        window = EffectWindow(begun.position, world.ordered, begun.waiting)
        self._looks = Looks()
        self._hand = EffectsInHand(window, self._looks.due_in)
        self._attempts = Attempts(world, self._hand, self._wake.set)
        self._cancellation = Cancellation(world, self._hand, self._attempts, self._patience)
        self._intake = Intake(
            world, begun, self._hand, self._looks, self._patience, self._cancellation.take
        )
        self._settlement = Settlement(
            world, begun.position, self._hand, self._looks, self._patience
        )

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._intake.next_look - monotonic())):
                await self._wake.wait()

    async def _finish(self) -> None:
        """Let what is under way end, for a while; make all ends durable."""
        await self._attempts.ended(STOP_WAIT_S)
        with suppress(DatabaseUnavailable):
            await self._settlement.settle()
