"""What the loops of all partitions of a process share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from uuid import UUID

    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.reducer import Codec, KeyType
    from omninode_bridge.core.retry import Uniform
    from omninode_bridge.ports import (
        ActionLog,
        CanonicalStore,
        Clock,
        Hints,
        IntentLog,
        Leases,
        ProjectionLog,
        RememberedOutcomes,
    )


@dataclass(frozen=True, slots=True)
class World:
    """What the loops of all partitions share: the ports, and the process's dice, clock and ids."""

    partitions: int
    name: str
    lease: timedelta
    key_types: Mapping[str, KeyType]
    codec: Codec
    store: CanonicalStore
    outcomes: RememberedOutcomes
    actions: ActionLog
    intents: IntentLog
    projections: ProjectionLog
    leases: Leases
    clock: Clock
    new_id: Callable[[], UUID]
    uniform: Uniform
    observe: Observe
    advanced: Callable[[Iterable[tuple[str, int]]], None]
    hints: Hints | None = None
