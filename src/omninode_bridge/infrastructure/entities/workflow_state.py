"""The row of `workflow_state` (migration 006)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field

from omninode_bridge.infrastructure.entities.row import (
    AwareDatetime,
    Hash,
    Json,
    Row,
    Version,
    WorkflowKey,
)


class ModelProvenance(Row):
    """Where a version came from. Ids and times stand as text in the JSON column."""

    model_config = ConfigDict(strict=False)

    effect_id: UUID
    timestamp: AwareDatetime
    action_id: UUID
    action_type: Annotated[str, Field(min_length=1)]
    epoch: int | None
    lease_id: UUID | None
    correlation_id: UUID | None
    chain: Hash


class ModelWorkflowState(Row):
    """The canonical state of one workflow key."""

    workflow_key: WorkflowKey
    version: Version
    state: Json
    updated_at: AwareDatetime
    schema_version: Annotated[int, Field(ge=1)]
    provenance: ModelProvenance
