"""The door to a pure reduction: a state and an action in, the next state and intents out.

Nothing becomes durable here, and nothing is told to anybody: who called does that, or has it done.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, ClassVar, Final

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import SealedAction, key_type_of
from omninode_bridge.core.reducer import Absorbed, Snapshot, fold
from omninode_bridge.nodes.models import (
    ModelIntent,
    ModelReducerInput,
    ModelReducerOutput,
    ModelRejection,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omninode_bridge.core.machine import Machine
    from omninode_bridge.core.reducer import Codec, KeyType, Step
    from omninode_bridge.nodes.models import ModelAction
    from omninode_bridge.ports import Clock

PERSIST_STATE: Final = "PersistState"
STORE_EFFECT: Final = "store_effect"


class NodeBridgeReducer:
    """Reduces one action with the function that is declared for its key type."""

    published: ClassVar[tuple[str, ...]] = ()
    intents: ClassVar[tuple[str, ...]] = (PERSIST_STATE,)
    machine: ClassVar[Machine | None] = None

    def __init__(self, key_types: Mapping[str, KeyType], codec: Codec, clock: Clock) -> None:
        """`clock` gives the commit time that a projection is tried with."""
        self._key_types = key_types
        self._codec = codec
        self._clock = clock

    async def process(self, reducer_input: ModelReducerInput) -> ModelReducerOutput:
        """Return where the action leads, or why it leads nowhere.

        The first intent is `PersistState`, for the store effect; the reducer's own follow. An
        action that is given up is a `ModelRejection` without intents, for whatever reason, an error
        of the reducer included (R1: equal input gives equal output).

        Raises:
            InvalidAction: state or payload are not JSON that can be stored.
        """
        began = perf_counter()
        metadata = reducer_input.metadata
        snapshot = Snapshot(metadata.version, self._encode("data", reducer_input.data))
        action = self._sealed(metadata.action)
        key_type = self._key_types.get(key_type_of(action.workflow_key))
        _, (step,) = fold(snapshot, [action], key_type, self._codec, self._clock())
        result, intents = self._told(step, metadata.version)
        took_ms = (perf_counter() - began) * 1000
        return ModelReducerOutput(
            result=result, intents=intents, items_processed=1, processing_time_ms=took_ms
        )

    def _told(
        self, step: Step, version: int
    ) -> tuple[dict[str, object] | ModelRejection, tuple[ModelIntent, ...]]:
        if not isinstance(step, Absorbed):
            rejection = ModelRejection(reason=step.reason, detail=step.detail, version=step.version)
            return rejection, ()
        action, state = step.action, step.snapshot.state
        persist = ModelIntent(
            intent_type=PERSIST_STATE,
            target=STORE_EFFECT,
            payload={
                "workflow_key": action.workflow_key,
                "expected_version": version,
                "state_prime": self._codec.decode(state),
                "action_id": str(action.action_id),
            },
        )
        others = (
            ModelIntent(
                intent_type=intent.intent_type,
                target=intent.target,
                payload=self._codec.decode(intent.payload),
                reply_to=intent.reply_to,
                due_at=intent.due_at,
                due_in_ms=intent.due_in_ms,
            )
            for intent in step.intents
        )
        return self._codec.decode(state), (persist, *others)

    def _sealed(self, action: ModelAction) -> SealedAction:
        return SealedAction(
            action.action_id,
            action.workflow_key,
            action.type,
            self._encode("payload", action.payload),
            action.occurred_at,
            action.epoch,
            action.lease_id,
            action.correlation_id,
            action.causation_id,
        )

    def _encode(self, field: str, value: object) -> bytes:
        try:
            return self._codec.encode(value)
        except ValueError as error:
            raise InvalidAction(field, str(error)) from error
