"""Making durable what became of effects, batch after batch: ends, parked ones, the position."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.effects import EndedEffect, ParkedEffect, ended_badly
from omninode_bridge.core.errors import ValueRefused
from omninode_bridge.core.observation import EffectsSettled
from omninode_bridge.core.reducer import DETAIL_CHARS_MAX, storable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omninode_bridge.core.effects import OpenEffect
    from omninode_bridge.core.effects_in_hand import EffectsInHand
    from omninode_bridge.services.effect_runner.intake import Looks
    from omninode_bridge.services.effect_runner.patience import Patience
    from omninode_bridge.services.effect_runner.world import EffectWorld

SETTLE_MAX: Final = 500


class Settlement:
    """Settles what is in hand of one partition."""

    def __init__(
        self,
        world: EffectWorld,
        position: int,
        hand: EffectsInHand,
        looks: Looks,
        patience: Patience,
    ) -> None:
        """Begin at the durable `position`."""
        self._world = world
        self._position = position
        self._hand = hand
        self._looks = looks
        self._patience = patience

    async def settle(self) -> bool:
        """Make durable what ended, what is parked, and the position; False: not the owner."""
        while self._hand.has_to_settle(self._position):
            if not await self._settle_batch(*self._hand.batch(SETTLE_MAX)):
                return False
        return True

    async def _settle_batch(self, ended: list[EndedEffect], parked: list[ParkedEffect]) -> bool:
        position = self._hand.position_after(ended, parked)
        place = (self._world.partition, self._world.owner)
        try:
            is_owner = await self._patience(
                partial(self._world.ends.settle, *place, ended, parked, position)
            )
        except ValueRefused as error:
            return await self._settle_apart(ended, parked, error)
        if is_owner:
            self._hand.settled(ended, parked)
            self._settled(ended, parked, position)
            await self._ask_for(wait.effect for wait in parked if wait.maybe_over)
        return is_owner

    def _settled(self, ended: list[EndedEffect], parked: list[ParkedEffect], position: int) -> None:
        if any(wait.due_at is not None for wait in parked):
            self._looks.parked = 0.0  # it may be due already
        self._position = max(self._position, position)
        if any(end.follow_ups for end in ended):
            self._world.followed()
        types = [wait.effect.entry.intent.intent_type for wait in parked]
        unhandled = sum(name not in self._world.types for name in types)
        counts = (len(ended), len(parked), unhandled)
        self._world.observe(EffectsSettled(self._world.partition, *counts, self._position))

    async def _ask_for(self, maybe_over: Iterable[OpenEffect]) -> None:
        """Find out which of those that were to be parked had ended: their lanes are free."""
        find, partition = self._world.parked.find, self._world.partition
        for effect in maybe_over:
            # The end was written under the lock that parking has waited for: it is there by now,
            # or it never will be.
            waits = await self._patience(partial(find, partition, effect.entry.intent.intent_id))
            if waits is None:
                self._hand.over_outside(effect)

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
        dead = ended_badly(one.effect, "dead", one.attempts, detail, self._world.codec)
        return await self._settle_batch([dead], [])
