"""What carrying out the effects of one partition needs of the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from omninode_bridge.core.effect_types import EffectType
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.core.slots import Slots
    from omninode_bridge.ports import Clock, EffectEnds, EffectLog, ParkedEffects


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectWorld:
    """The partition, its ports, and what is declared; `followed` is told that intents grew."""

    partition: int
    owner: UUID | None
    types: Mapping[str, EffectType]
    slots: Slots
    log: EffectLog
    parked: ParkedEffects
    ends: EffectEnds
    codec: Codec
    clock: Clock
    uniform: Uniform
    followed: Callable[[], None]
    observe: Observe

    @property
    def ordered(self) -> list[str]:
        """The types whose effects of one key come one after another."""
        return [name for name, effect_type in self.types.items() if effect_type.ordered]
