"""What the value of each message holds: the shapes that others may rely on.

Rule 1: nobody here reads messages by these; they are what the document of our topics is made from
        (`asyncapi`), and the tests hold what is really written against them. A field that is
        written and not named here is an error there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from omninode_bridge.core.message import (
    KEY_BYTES_MAX,
    KEY_BYTES_MIN,
    NAME_BYTES_MAX,
    GiveUpReason,
    Purpose,
)

WorkflowKey = Annotated[
    str,
    Field(
        pattern="^[^:\\u0000]+:[^\\u0000]+$",
        min_length=KEY_BYTES_MIN,
        max_length=KEY_BYTES_MAX,
        description=f"`type:id`, {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes of UTF-8.",
    ),
]
Name = Annotated[str, Field(min_length=1, max_length=NAME_BYTES_MAX)]
Count = Annotated[int, Field(ge=0)]
Position = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class MessageType(BaseModel):
    """Nothing but what is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ActionType(MessageType):
    """An action as the log keeps it; what its asker did not say is left out."""

    action_id: UUID
    workflow_key: WorkflowKey
    type: Name
    payload: dict[str, Any]
    occurred_at: datetime
    epoch: Count | None = None
    lease_id: UUID | None = None
    correlation_id: UUID | None = None
    causation_id: UUID | None = Field(
        default=None, description="The action or intent that this one follows from."
    )
    depth: Count = Field(default=0, description="How long the chain of follow-up actions is.")
    reply_to: WorkflowKey | None = None
    purpose: Purpose = "apply"
    redrive_id: UUID | None = None
    due_at: datetime | None = None


class GivenUpActionType(ActionType):
    """As an action; without its payload where that is what could not be stored."""

    payload: Any = Field(default=None, description="Any JSON: it may be why it was given up.")


class ProjectionType(MessageType):
    """The queryable copy of a key at this version."""

    tag: str
    namespace: str
    indices: dict[str, Any] | None
    extras: dict[str, Any] | None


class StateCommittedType(MessageType):
    """An action was absorbed as a version of its key."""

    workflow_key: WorkflowKey
    version: Position
    action_id: UUID
    commit_offset: Position = Field(description="Where it stands in its partition of our log.")
    committed_at: datetime
    action: ActionType
    reducer_version: Count
    result_hash: Sha256 = Field(description="SHA-256 of the state's canonical bytes.")
    chain: Sha256 = Field(description="The key's hash chain up to here.")
    effect_id: UUID = Field(description="Names the commit: one id a batch.")
    projection: ProjectionType
    epoch: Count | None = Field(default=None, description="A fenced key's own, if it differs.")
    lease_id: UUID | None = None


class ReducerGaveUpType(MessageType):
    """An action was given up, for good, for a reason."""

    event: Literal["ReducerGaveUp"]
    workflow_key: WorkflowKey
    action_id: UUID
    given_up_at: datetime
    attempts: Count
    reason: GiveUpReason
    detail: str
    version: Count = Field(description="The version of the key that this was decided at.")
    action: GivenUpActionType
    effect_id: UUID = Field(description="Names the commit: one id a batch.")


class FsmStateTransitionedType(MessageType):
    """A state machine went from one state to another."""

    workflow_key: WorkflowKey
    version: Position
    action_id: UUID
    committed_at: datetime
    transition: dict[str, Any] = Field(description="What the reducer tells of it.")
    correlation_id: UUID | None = None


class StateConflictType(MessageType):
    """A key was not at the version that a caller expected; nothing was written."""

    workflow_key: WorkflowKey
    expected_version: Count
    actual_version: Count
    action_id: UUID


class MoveType(MessageType):
    """The position of the partition in its action log, before and after the commit."""

    expected: Position
    next: Position


class SentActionType(ActionType):
    """An action with its asker's terms; of one that was given up, the payload may be any JSON."""

    payload: Any
    expected_version: Count | None = None
    remember_s: float | None = Field(
        default=None, description="How long the outcome is remembered; 6 hours if not said."
    )


class SentIntentType(MessageType):
    """What is to be done because of the commit."""

    intent_id: UUID
    intent_type: Name
    target: str
    payload: Any
    reply_to: WorkflowKey | None = None
    due_at: datetime | None = None
    due_in_ms: Count | None = None


class AbsorbedType(MessageType):
    """An action that makes a version of its key."""

    action: SentActionType
    version: Position
    state: dict[str, Any] | None = Field(
        description="Of each key in a batch the last step has it; no other is stored."
    )
    chain: Sha256
    epoch: Count | None = Field(description="A fenced key's own, after this action.")
    lease_id: UUID | None
    reducer_version: Count
    result_hash: Sha256
    projection: ProjectionType
    intents: list[SentIntentType]


class GivenUpType(MessageType):
    """Why an action is given up, and at which version of its key that was decided."""

    reason: GiveUpReason
    detail: str
    version: Count
    payload_kept: bool = Field(description="Whether the history keeps the payload.")


class RefusedType(MessageType):
    """An action that is given up."""

    action: SentActionType
    gave_up: GivenUpType


class PersistStateType(MessageType):
    """A batch of one partition that a reducer has folded: it is committed whole, or not at all."""

    partition: Count
    token: UUID = Field(
        description="Of the partition's lease: another one there, and it is refused."
    )
    position: MoveType | None
    reads: dict[str, Count] = Field(description="The version of every key that was read.")
    attempts: Position
    steps: list[AbsorbedType | RefusedType] = Field(description="In the order of the log.")


class StaleKeyType(MessageType):
    """A key that is at another version than the one it was read at."""

    workflow_key: WorkflowKey
    expected_version: Count
    actual_version: Count


class KnownActionType(MessageType):
    """An action whose outcome is remembered."""

    workflow_key: WorkflowKey
    action_id: UUID


class PersistedType(MessageType):
    """The batch is durable; each number is the offset of its first entry of a topic of our log."""

    event: Literal["StateCommitted"]
    action_ids: list[UUID]
    state_committed_first: Position
    reducer_gave_up_first: Position
    intent_first: Position


class NotPersistedType(MessageType):
    """Nothing was written, for all of these reasons."""

    event: Literal["StateConflict"]
    action_ids: list[UUID]
    not_owner: bool = Field(description="Another process holds the partition.")
    moved: bool = Field(description="Its position is not as expected.")
    stale: list[StaleKeyType]
    known: list[KnownActionType]


class NotStorableType(MessageType):
    """Nothing was written: the database refused a value."""

    event: Literal["ValueRefused"]
    action_ids: list[UUID]
    sqlstate: str
    detail: str


class PersistAnsweredType(RootModel[PersistedType | NotPersistedType | NotStorableType]):
    """What became of a batch that was sent to be persisted."""
