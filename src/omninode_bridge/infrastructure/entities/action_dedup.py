"""The row of `action_dedup_log` (migration 008)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from omninode_bridge.infrastructure.entities.row import (
    AwareDatetime,
    Hash,
    Json,
    Row,
    WorkflowKey,
)


class ModelActionDedup(Row):
    """What an action id came to. `expires_at` is "infinity" when it is remembered for ever."""

    workflow_key: WorkflowKey
    action_id: UUID
    request_hash: Hash
    result_hash: Hash
    version: Annotated[int, Field(ge=0)] | None
    outcome: Json
    processed_at: AwareDatetime
    expires_at: AwareDatetime | Literal["infinity"]

    @model_validator(mode="after")
    def _expires_after_it_was_processed(self) -> Self:
        if isinstance(self.expires_at, datetime) and self.expires_at < self.processed_at:
            message = "expires_at lies before processed_at"
            raise ValueError(message)
        return self
