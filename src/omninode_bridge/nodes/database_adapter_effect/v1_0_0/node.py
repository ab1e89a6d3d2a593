"""The door to durable state: compare and set one key, or move a state machine.

Rule 1: both go through the one commit path there is.
Rule 2: what came of it is the answer, and is published; durable it is by its commit, not by that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, assert_never

from pydantic import BaseModel, ValidationError

from omninode_bridge.core import topics
from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.fsm_workflow import (
    IllegalTransition,
    StateDiffers,
    UnknownWorkflow,
)
from omninode_bridge.core.machine import WORKFLOW, Machine
from omninode_bridge.core.message import (
    STATE_REPLACED,
    Provenance,
    ReducerGaveUp,
    StateCommitted,
    StateConflict,
    key_type_of,
)
from omninode_bridge.core.our_key_types import HOW_OURS_MOVE
from omninode_bridge.nodes.models import (
    ModelContractEffect,
    ModelFsmTransition,
    ModelPersistState,
)

if TYPE_CHECKING:
    from omninode_bridge.core.message import Event
    from omninode_bridge.ports import Clock, EventBus, StateReplacing, WorkflowStates

_M = TypeVar("_M", bound=BaseModel)


class NodeBridgeStoreEffect:
    """Commits, one operation at a time."""

    published: ClassVar[tuple[str, ...]] = (
        topics.STATE_COMMITTED,
        topics.STATE_CONFLICT,
        topics.REDUCER_GAVE_UP,
    )
    intents: ClassVar[tuple[str, ...]] = ()
    machine: ClassVar[Machine | None] = WORKFLOW

    def __init__(
        self, store: StateReplacing, fsm: WorkflowStates, bus: EventBus, clock: Clock
    ) -> None:
        """`clock` gives the time at which an operation was asked for."""
        self._store = store
        self._fsm = fsm
        self._bus = bus
        self._clock = clock

    async def execute_effect(
        self, effect: ModelContractEffect
    ) -> (
        StateCommitted
        | StateConflict
        | IllegalTransition
        | StateDiffers
        | UnknownWorkflow
        | ReducerGaveUp
    ):
        """Do what `effect.input_data["operation"]` names, publish what came of it, and return it.

        `persist_state` is answered by `StateCommitted`; by `StateConflict` with the version the key
        is at, and then nothing was written; or, where the key is fenced, by `ReducerGaveUp` for an
        epoch that is past (`stale_epoch`) or another's (`lease_mismatch`). The bridge's own keys,
        `fsm:...` and `run:...`, are not replaced. `fsm_transition` is answered by `StateCommitted`,
        or by a value that says what would have been allowed; its `ReducerGaveUp` is published.

        Raises:
            InvalidAction: the input is not that of an operation, or could never be stored.
            ValueError: the state cannot be committed: no such key type, or its projection fails.
            OutcomeUnknown, DatabaseUnavailable: it may have happened; ask again by the same id.
        """
        answer: Event | IllegalTransition | StateDiffers | UnknownWorkflow
        match effect.input_data.get("operation"):
            case "persist_state":
                answer = await self._persist(effect, _read(ModelPersistState, effect.input_data))
            case "fsm_transition":
                answer = await self._go(effect, _read(ModelFsmTransition, effect.input_data))
            case other:
                detail = f"is {other!r}; there are persist_state and fsm_transition"
                raise InvalidAction("operation", detail)
        event = _event_of(answer)
        await self._bus.publish(topics.topic_of(event), event)
        return answer

    async def _persist(
        self, effect: ModelContractEffect, asked: ModelPersistState
    ) -> StateCommitted | StateConflict | ReducerGaveUp:
        key_type = key_type_of(asked.workflow_key)
        if key_type in HOW_OURS_MOVE:
            detail = f"{asked.workflow_key} moves by its own rules only: {HOW_OURS_MOVE[key_type]}"
            raise InvalidAction("workflow_key", detail)
        provenance = Provenance(
            effect.effect_id,
            self._clock(),
            asked.action_id,
            STATE_REPLACED,
            effect.epoch,
            effect.lease_id,
            effect.correlation_id,
            chain="",  # the commit's
        )
        return await self._store.try_commit(
            asked.workflow_key, asked.expected_version, asked.state_prime, provenance
        )

    async def _go(
        self, effect: ModelContractEffect, asked: ModelFsmTransition
    ) -> StateCommitted | ReducerGaveUp | IllegalTransition | StateDiffers | UnknownWorkflow:
        return await self._fsm.transition_state(
            asked.workflow_id,
            asked.from_state,
            asked.to_state,
            asked.trigger,
            asked.metadata,
            action_id=asked.action_id,
            epoch=effect.epoch,
            lease_id=effect.lease_id,
            correlation_id=effect.correlation_id,
        )


def _read(model: type[_M], input_data: dict[str, Any]) -> _M:
    try:
        return model.model_validate(input_data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidAction(field, first["msg"]) from error


def _event_of(
    answer: Event | IllegalTransition | StateDiffers | UnknownWorkflow,
) -> Event:
    match answer:
        case StateCommitted() | StateConflict() | ReducerGaveUp():
            return answer
        case IllegalTransition() | StateDiffers() | UnknownWorkflow():
            return answer.outcome
        case _:
            assert_never(answer)
