"""A dead letter: an action that was given up (migration 009), or a dead effect (migration 011)."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from omninode_bridge.core.message import GiveUpReason, key_type_of
from omninode_bridge.core.orchestration import RUN
from omninode_bridge.infrastructure.entities.row import (
    AwareDatetime,
    Json,
    Offset,
    Row,
    WorkflowKey,
)


class ModelDeadLetter(Row):
    """What could not be done. `id` is an action id, or for an effect the id of its intent.

    `type` is the action's or the intent's; `action_id` is the action itself, or the one that asked
    for the effect. `reply_to` is the key that was told of the end. `reason` is the give-up's, or
    `dead`. `body` is all that is stored of it.
    """

    kind: Literal["action", "effect"]
    id: UUID
    workflow_key: WorkflowKey
    type: Annotated[str, Field(min_length=1)]
    reason: GiveUpReason | Literal["dead"]
    detail: str
    attempts: Annotated[int, Field(ge=0)]
    at: AwareDatetime
    action_id: UUID
    reply_to: Annotated[str, Field(min_length=1)] | None
    partition: Annotated[int, Field(ge=0)]
    offset: Offset
    body: Json

    @property
    def is_of_run(self) -> bool:
        """Whether a run asked for it. What becomes of it is the run's business then.

        The run may have asked again under another id since, or have failed and undone its steps.
        """
        return self.reply_to is not None and key_type_of(self.reply_to) == RUN.name
