"""What all rows have in common: their configuration and the shapes of their columns."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from omninode_bridge.core.message import check_workflow_key


class Row(BaseModel):
    """A row as it is stored: immutable, and nothing in it that is not a column."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


WorkflowKey = Annotated[str, AfterValidator(check_workflow_key)]
Version = Annotated[int, Field(ge=1)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Offset = Annotated[int, Field(ge=0)]
Json = dict[str, Any]

__all__ = ["AwareDatetime", "Hash", "Json", "Offset", "Row", "Version", "WorkflowKey"]
