"""What goes through the doors: frozen, and nothing in them that is not a field.

Ids and times may stand as text, as they do in messages.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID, uuid4

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from omninode_bridge.core.message import GiveUpReason, check_workflow_key
from omninode_bridge.core.terms import COUNT_MAX

WorkflowKey = Annotated[str, AfterValidator(check_workflow_key)]
Count = Annotated[int, Field(ge=0, le=COUNT_MAX)]
Text = Annotated[str, Field(min_length=1)]
Json = dict[str, Any]


class Model(BaseModel):
    """What a message is: immutable, nothing extra."""

    # Built when the first message comes: most processes never see one, and all of them would pay.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ModelAction(Model):
    """An action, as a reducer is asked about it."""

    action_id: UUID
    workflow_key: WorkflowKey
    type: Text
    payload: Json
    occurred_at: AwareDatetime
    epoch: Count | None = None
    lease_id: UUID | None = None
    correlation_id: UUID | None = None
    causation_id: UUID | None = None


class ModelReducerMetadata(Model):
    """The action to reduce, and the version of the state it is reduced on; 0: never seen."""

    action: ModelAction
    version: Count


class ModelReducerInput(Model):
    """`data` is the state at that version; {} for a key never seen."""

    data: Json
    metadata: ModelReducerMetadata

    @model_validator(mode="after")
    def _a_key_never_seen_has_no_state(self) -> Self:
        if self.metadata.version == 0 and self.data:
            message = "a key at version 0 was never seen: its state is {}"
            raise ValueError(message)
        return self


class ModelIntent(Model):
    """Something to be done; the payload's shape is the type's."""

    intent_type: Text
    target: str = ""
    payload: Json
    reply_to: WorkflowKey | None = None
    due_at: datetime | None = None
    due_in_ms: Count | None = None


class ModelRejection(Model):
    """The action is given up, for a reason of the glossary; the state stays as it was."""

    reason: GiveUpReason
    detail: str
    version: Count


class ModelReducerOutput(Model):
    """`result` is the next state, and the first intent asks for it to be committed.

    Or it is a rejection, and there are no intents: then nothing is to be done. The time, in
    milliseconds, is told for who looks on; two outputs are equal whatever they took.
    """

    result: Json | ModelRejection
    intents: tuple[ModelIntent, ...]
    items_processed: Count
    processing_time_ms: Annotated[float, Field(ge=0)]

    @model_validator(mode="before")
    @classmethod
    def _read_a_rejection(cls, data: object) -> object:
        # In a message both are objects, and a state may look like anything: the intents tell.
        if (
            not isinstance(data, dict)
            or data.get("intents")
            or not isinstance(data.get("result"), dict)
        ):
            return data
        return {**data, "result": ModelRejection.model_validate(data["result"])}

    @model_validator(mode="after")
    def _a_rejection_asks_for_nothing(self) -> Self:
        if isinstance(self.result, ModelRejection) == bool(self.intents):
            message = "a state comes with intents, the first of which persists it; a rejection not"
            raise ValueError(message)
        return self

    def __eq__(self, other: object) -> bool:
        """Compare all but the time."""
        if not isinstance(other, ModelReducerOutput):
            return NotImplemented
        mine = (self.result, self.intents, self.items_processed)
        return mine == (other.result, other.intents, other.items_processed)

    __hash__ = None  # type: ignore[assignment] # a state is a dict


class ModelContractEffect(Model):
    """What a store effect is asked for: `input_data["operation"]` says which operation.

    `effect_id` names the commit in its provenance; the other ids and the epoch go there too.
    """

    input_data: Json
    effect_id: UUID = Field(default_factory=uuid4)
    epoch: Count | None = None
    lease_id: UUID | None = None
    correlation_id: UUID | None = None


class ModelPersistState(Model):
    """The input of `persist_state`: the payload of the intent `PersistState`."""

    operation: Literal["persist_state"] = "persist_state"
    workflow_key: WorkflowKey
    expected_version: Count
    state_prime: Json
    action_id: UUID


class ModelFsmTransition(Model):
    """The input of `fsm_transition`."""

    operation: Literal["fsm_transition"] = "fsm_transition"
    workflow_id: Text
    from_state: Text
    to_state: Text
    trigger: Text | None = None
    metadata: Json = Field(default_factory=dict)
    action_id: UUID | None = None


class ModelContractOrchestrator(Model):
    """A run to be carried out; its key is `run:<workflow_id>`. `timeout_ms` bounds the waiting."""

    workflow_id: Text
    contract: Json
    input: Json = Field(default_factory=dict)
    timeout_ms: Annotated[float, Field(gt=0)] = 30_000
    epoch: Count | None = None
    lease_id: UUID | None = None


class ModelOrchestratorOutput(Model):
    """What a run came to; `outcome` is as the run tells it."""

    workflow_id: str
    outcome: Any
    processing_time_ms: Annotated[float, Field(ge=0)]
