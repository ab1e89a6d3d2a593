"""The row of `workflow_projection` (migration 007)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from omninode_bridge.core.projection import LABEL_BYTES_MAX
from omninode_bridge.infrastructure.entities.row import (
    AwareDatetime,
    Json,
    Row,
    Version,
    WorkflowKey,
)


class ModelWorkflowProjection(Row):
    """The queryable copy of one workflow key."""

    workflow_key: WorkflowKey
    version: Version
    tag: Annotated[str, Field(max_length=LABEL_BYTES_MAX)]
    last_action: str | None
    namespace: Annotated[str, Field(max_length=LABEL_BYTES_MAX)]
    updated_at: AwareDatetime
    indices: Json | None
    extras: Json | None
