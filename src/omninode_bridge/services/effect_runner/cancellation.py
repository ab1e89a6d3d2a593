"""Trying an effect no more, because an intent of the bridge's own says so."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from omninode_bridge.core.effects import ended_badly

if TYPE_CHECKING:
    from omninode_bridge.core.effects import LoggedIntent
    from omninode_bridge.core.effects_in_hand import EffectsInHand
    from omninode_bridge.services.effect_runner.attempts import Attempts
    from omninode_bridge.services.effect_runner.patience import Patience
    from omninode_bridge.services.effect_runner.world import EffectWorld


class Cancellation:
    """Finds what is to be tried no more, wherever it is, and ends it."""

    def __init__(
        self, world: EffectWorld, hand: EffectsInHand, attempts: Attempts, patience: Patience
    ) -> None:
        """Look among what is in hand and under way, then among what is parked."""
        self._world = world
        self._hand = hand
        self._attempts = attempts
        self._patience = patience

    async def take(self, entry: LoggedIntent) -> None:
        """Do what an intent says whose target is the id of another intent."""
        # Were the position to pass it before its effect has ended, a crash would forget it.
        self._hand.window.pass_by(entry.offset)
        self._hand.cancellation(entry.offset, await self.cancel(UUID(entry.intent.target)))

    async def cancel(self, intent_id: UUID) -> int | None:
        """Try an effect no more; return the offset of the one that ends by that, or is ending.

        None: it is over and stays so, or is nobody's here; its answer is on its way already.
        """
        ending = self._hand.ending(intent_id)
        if ending is not None:
            return ending
        place = self._hand.window.get(intent_id)
        if place is not None and self._hand.window.is_started(place.offset):
            self._attempts.cancel(place.offset)
            return place.offset
        effect = self._hand.not_begun(intent_id)
        if effect is None:
            find = partial(self._world.parked.find, self._world.partition, intent_id)
            effect = await self._patience(find)
        if effect is None:
            return None
        end = ended_badly(effect, "cancelled", effect.attempts, "cancelled", self._world.codec)
        self._hand.end_cancelled(end)
        return effect.entry.offset
