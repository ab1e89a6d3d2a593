"""Rows of our tables as pydantic models: frozen, nothing extra. One table a class."""

from omninode_bridge.infrastructure.entities.action_dedup import ModelActionDedup
from omninode_bridge.infrastructure.entities.dead_letter import ModelDeadLetter
from omninode_bridge.infrastructure.entities.projection_watermark import ModelProjectionWatermark
from omninode_bridge.infrastructure.entities.workflow_projection import ModelWorkflowProjection
from omninode_bridge.infrastructure.entities.workflow_state import (
    ModelProvenance,
    ModelWorkflowState,
)

__all__ = [
    "ModelActionDedup",
    "ModelDeadLetter",
    "ModelProjectionWatermark",
    "ModelProvenance",
    "ModelWorkflowProjection",
    "ModelWorkflowState",
]
