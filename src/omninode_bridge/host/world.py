"""What the loops of all partitions of a process share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from omninode_bridge.core.roles import ALL, NEED_BUS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from uuid import UUID

    from omninode_bridge.core.effect_types import EffectType
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.reducer import Codec, KeyType
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.core.roles import Role
    from omninode_bridge.host.bus import Bus
    from omninode_bridge.ports import (
        ActionLog,
        CanonicalStore,
        Clock,
        EffectClaims,
        EffectEnds,
        EffectLog,
        Hints,
        IntentLog,
        Leases,
        Members,
        ParkedEffects,
        ProjectionLog,
        RememberedOutcomes,
        Timers,
        Wakes,
    )


@dataclass(frozen=True, slots=True)
class World:
    """What the loops of all partitions share: the ports, and the process's dice, clock and ids.

    `pure_reducer` says which worker a partition gets: the one that folds batches in memory or, with
    False, the direct path. Where the `store` sends commits to a store effect by the bus, our own
    store effect has the one that commits, `committing`; None: the `store` commits.
    """

    partitions: int
    name: str
    lease: timedelta
    key_types: Mapping[str, KeyType]
    effect_types: Mapping[str, EffectType]
    codec: Codec
    store: CanonicalStore
    outcomes: RememberedOutcomes
    actions: ActionLog
    timers: Timers
    intents: IntentLog
    effect_log: EffectLog
    parked_effects: ParkedEffects
    effect_ends: EffectEnds
    projections: ProjectionLog
    leases: Leases
    claims: EffectClaims
    members: Members
    wakes: Wakes
    clock: Clock
    new_id: Callable[[], UUID]
    uniform: Uniform
    observe: Observe
    advanced: Callable[[Iterable[tuple[str, int, str]]], None]
    pure_reducer: bool = True
    hints: Hints | None = None
    bus: Bus | None = None
    roles: frozenset[Role] = ALL
    committing: CanonicalStore | None = None

    @property
    def duties(self) -> frozenset[Role]:
        """What this process does: its roles, but for those that need a bus where there is none."""
        return self.roles if self.bus is not None else self.roles - NEED_BUS
