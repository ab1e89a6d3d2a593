"""The row of `projection_watermarks` (migration 007)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from omninode_bridge.infrastructure.entities.row import (
    AwareDatetime,
    Offset,
    Row,
)


class ModelProjectionWatermark(Row):
    """How far the projection of one partition has come: the next offset it will read."""

    partition_id: Annotated[str, Field(pattern=r"^[a-z-]+/[0-9]+$")]
    offset: Offset
    updated_at: AwareDatetime
