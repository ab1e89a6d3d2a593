"""What an open bridge shows, even one that only reads: states, projections, history, facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omninode_bridge.app.observers import Observers
from omninode_bridge.core.our_key_types import OUR_KEY_TYPES
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.services.canonical_store import CanonicalStoreService
from omninode_bridge.services.dead_letters import DeadLetterService
from omninode_bridge.services.effect_store import EffectStoreService
from omninode_bridge.services.event_log import EventLogService
from omninode_bridge.services.projection_rebuild import ProjectionRebuildService
from omninode_bridge.services.projection_store import ProjectionStoreService
from omninode_bridge.services.relayed_log import RelayedLogService
from omninode_bridge.services.verifier import VerifierService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from uuid import UUID

    from omninode_bridge.app.declaring import App
    from omninode_bridge.core.observation import Observe
    from omninode_bridge.core.partition import Partitioning
    from omninode_bridge.infrastructure.entities import (
        ModelDeadLetter,
        ModelWorkflowProjection,
        ModelWorkflowState,
    )
    from omninode_bridge.infrastructure.postgres.database import Database
    from omninode_bridge.services.verifier import Verification


class Looking:
    """A bridge as whoever looks at what is there sees it."""

    def __init__(self, app: App, database: Database, partitioning: Partitioning) -> None:
        """Wire what reads; `Bridge.open` adds what writes."""
        self.app = app
        self.partitions = partitioning.partitions
        self._incarnation = partitioning.incarnation
        self._database = database
        self._codec = CanonicalCodec()
        self._key_types = app.key_types() | OUR_KEY_TYPES
        self.canonical_store = CanonicalStoreService(
            database,
            self._codec,
            partitions=self.partitions,
            key_types=self._key_types,
            incarnation=self._incarnation,
        )
        self.projection_store = ProjectionStoreService(database)
        self.event_log = EventLogService(database)
        self._dead_letters = DeadLetterService(database, self._codec)
        self._observers = Observers()

    async def read(
        self, key: str, *, required_version: int | None = None, max_wait_ms: float = 100
    ) -> ModelWorkflowProjection | None:
        """Return the projection of `key`, at `required_version` or above (R8); None: never seen.

        Raises:
            VersionNotReached: nothing has committed that version.
        """
        return await self.projection_store.get_state(key, required_version, max_wait_ms)

    async def state(self, key: str) -> ModelWorkflowState | None:
        """Return the canonical state of `key`; None: never seen."""
        return await self.canonical_store.get_state(key)

    async def list(
        self,
        *,
        namespace: str | None = None,
        tag: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Sequence[ModelWorkflowProjection]:
        """Return a page of projections in the order of their keys, those above `after`."""
        return await self.projection_store.list(
            namespace=namespace, tag=tag, after=after, limit=limit
        )

    async def history(
        self, key: str, *, after: int = 0, limit: int = 1_000
    ) -> Sequence[dict[str, Any]]:
        """Return up to `limit` versions of `key` above `after`: action, hashes, commit time."""
        return await self.event_log.history(key, after, limit)

    async def explain(self, action_id: UUID) -> Sequence[dict[str, Any]]:
        """Return what became of an action: outcome, version, intents; one object a key."""
        found = await self.event_log.explain(action_id)
        if any(line["intents"] for line in found):
            ends = await EffectStoreService(self._database, self._codec).of_action(action_id)
            for line in found:
                for intent in line["intents"]:
                    intent["effects"] = ends.get(intent["intent_id"], [])
        return found

    async def dead_letters(
        self,
        *,
        reason: str | None = None,
        after: ModelDeadLetter | None = None,
        limit: int = 100,
    ) -> Sequence[ModelDeadLetter]:
        """Return a page of dead letters behind `after`: given-up actions, then dead effects.

        Without a `reason`: what is broken (`reducer_error`, `invalid`, and dead effects).
        """
        return await self._dead_letters.list(reason=reason, after=after, limit=limit)

    def dead_letter_pages(
        self, *, reason: str | None = None, size: int = 1_000
    ) -> AsyncIterator[Sequence[ModelDeadLetter]]:
        """Return all that are dead letters now, in pages: for who redrives them meanwhile.

        What dies after the first page was read, again or for the first time, is not among them.
        """
        return self._dead_letters.pages(reason=reason, size=size)

    async def dead_letter(self, letter_id: UUID) -> Sequence[ModelDeadLetter]:
        """Return the dead letters of an action id (one a key) or of an intent's id."""
        return await self._dead_letters.find(letter_id)

    async def verify(
        self, progress: Callable[[Verification], None] = lambda _: None
    ) -> Verification:
        """Fold the whole history again and compare hashes, chains, states, projections (R14)."""
        ours = {(each.name, each.version): each for each in OUR_KEY_TYPES.values()}
        versions = self.app.every_version() | ours
        verifier = VerifierService(self._database, self._codec, versions)
        return await verifier.verify(progress)

    async def rebuild_projection(self) -> int:
        """Build the projection anew from the log while reads go on (R7); return its rows."""
        return await ProjectionRebuildService(self._database).rebuild()

    async def bus_positions(self) -> Sequence[dict[str, Any]]:
        """Return how far this log and the topics of a bus outside are in step."""
        return await RelayedLogService(self._database).positions()

    async def forget_bus_topic(self, topic: str) -> int:
        """Forget how far we are in step with a topic (its whole name); return how many positions.

        It is begun anew when a bridge is opened: history is relayed from the first entry on, and
        actions are taken over from what the topic still has. For a person who knows what is
        missing.
        """
        return await RelayedLogService(self._database).forget(topic)

    def observe(self, observe: Observe) -> None:
        """Tell `observe` every fact from now on."""
        self._observers.add(observe)
