"""The row of `workflow_projection` (migration 007)."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import AfterValidator

from omninode_bridge.core.projection import check_label
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
    tag: Annotated[str, AfterValidator(partial(check_label, "tag"))]
    last_action: str | None
    namespace: Annotated[str, AfterValidator(partial(check_label, "namespace"))]
    updated_at: AwareDatetime
    indices: Json | None
    extras: Json | None
