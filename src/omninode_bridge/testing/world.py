"""A world in memory: every port of the bridge over one store, as honest as PostgreSQL.

Rule 1: it keeps the promises of the ports; `tests/contract/` asks PostgreSQL the same questions.
Rule 2: no clock and no dice of its own, and no waiting but for locks: what happens depends on
        the calls, their order, and the clock it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omninode_bridge.core.sharing import LEASE
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.testing.bus import (
    MemoryCommandPositions,
    MemoryRelayedLog,
    MemoryTakenOver,
)
from omninode_bridge.testing.effects import MemoryEffects
from omninode_bridge.testing.interruptions import Interruptions
from omninode_bridge.testing.logs import (
    MemoryActionLog,
    MemoryIntentLog,
    MemoryProjectionLog,
    MemorySegments,
)
from omninode_bridge.testing.looking import MemoryProjectionList, MemoryTransitionLog
from omninode_bridge.testing.stores import (
    MemoryCanonicalStore,
    MemoryEffectClaims,
    MemoryHints,
    MemoryLeases,
    MemoryMembers,
    MemoryOutcomes,
    MemoryWakes,
)
from omninode_bridge.testing.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from omninode_bridge.core.message import ReducerGaveUp
    from omninode_bridge.core.reducer import KeyType
    from omninode_bridge.ports import Clock, LoggedProjection, LoggedTransition
    from omninode_bridge.testing.interruptions import Call, When

SEGMENT_ENTRIES: Final = 200_000


class MemoryWorld:
    """The ports of a bridge, all over one store.

    They are `store` (which recalls outcomes as well), `actions`, `timers`, `intents`, `effects`,
    `projections`, `leases`, `claims` (to effects), `members`, `wakes`, `outcomes` (which cleans
    them), `segments`, `hints`, and what looks: `transition_log`, `projection_list`; and what is in
    step with a bus: `relayed`, `taken_over`, `command_positions`.

    Whoever shares a world shares its database; `clock` is that database's clock.

        clock = SettableClock()
        world = MemoryWorld(partitions=2, clock=clock)
        world.interrupt("store.commit", when="after")  # the next reply of a commit is lost
    """

    def __init__(
        self,
        *,
        clock: Clock,
        partitions: int = 4,
        lease: timedelta = LEASE,
        segment_entries: int = SEGMENT_ENTRIES,
        key_types: Mapping[str, KeyType] | None = None,
    ) -> None:
        """Begin empty. `lease` and `segment_entries` are as with PostgreSQL's stores.

        `key_types` are needed by `store.try_commit` alone, which folds by itself.
        """
        codec = CanonicalCodec()
        interruptions = Interruptions()
        tables = Tables(partitions, segment_entries)
        self.clock = clock
        self.partitions = partitions
        self._interruptions = interruptions
        self._tables = tables
        self.store = MemoryCanonicalStore(
            tables, interruptions, codec, clock, lease, key_types or {}
        )
        self.actions = MemoryActionLog(tables, interruptions, clock)
        self.timers = self.actions
        self.effects = MemoryEffects(tables, interruptions, clock)
        self.intents = MemoryIntentLog(tables, interruptions)
        self.projections = MemoryProjectionLog(tables, interruptions)
        self.leases = MemoryLeases(tables, interruptions, clock)
        self.claims = MemoryEffectClaims(tables, interruptions, clock)
        self.members = MemoryMembers(tables, interruptions, clock)
        self.wakes = MemoryWakes(interruptions)
        self.outcomes = MemoryOutcomes(tables, interruptions, clock)
        self.transition_log = MemoryTransitionLog(tables)
        self.projection_list = MemoryProjectionList(tables)
        self.segments = MemorySegments(tables, interruptions)
        self.relayed = MemoryRelayedLog(tables, interruptions)
        self.taken_over = MemoryTakenOver(tables, interruptions, clock)
        self.command_positions = MemoryCommandPositions(tables, interruptions)
        self.hints = MemoryHints()

    def interrupt(self, call: Call, *, when: When, skip: int = 0, times: int = 1) -> None:
        """Let the next `times` calls of `call` raise DatabaseUnavailable, after `skip` that work.

        `before`: the call does nothing. `after`: it is done, and its reply is lost; for
        `store.locked` that is the end of its transaction, while any other call that is lost within
        that transaction takes the transaction with it.
        """
        self._interruptions.plan(call, when, skip=skip, times=times)

    def register(self, consumer: str, topic: str, partition: int, home: int) -> None:
        """Hold back the segments of a transient topic for `consumer`, from its low on."""
        here = self._tables.partition(partition)
        low = {"action": here.actions.low, "intent": here.intents.low}[topic]
        self._tables.positions.setdefault((consumer, topic, partition, home), low)

    def retire(self, consumer: str, topic: str) -> None:
        """No longer hold anything back for `consumer`."""
        retired = [key for key in self._tables.positions if key[:2] == (consumer, topic)]
        for key in retired:
            del self._tables.positions[key]

    def projection(self, workflow_key: str) -> LoggedProjection | None:
        """Return the projected row of `workflow_key`, as the entry it was made from."""
        return self._tables.projections.get(workflow_key)

    def transitions(self, partition: int) -> Sequence[LoggedTransition]:
        """Return the `fsm-state-transitioned` log of `partition`; its first entry has offset 1."""
        return tuple(self._tables.partition(partition).transitions)

    def gave_up(self, partition: int) -> Sequence[ReducerGaveUp]:
        """Return the `reducer-gave-up` log of `partition`; its first entry has offset 1."""
        return tuple(self._tables.partition(partition).gave_up)
