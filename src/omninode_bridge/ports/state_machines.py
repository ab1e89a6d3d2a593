"""Workflows that are state machines: how they are moved, and the log of how they went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from omninode_bridge.core.fsm_workflow import IllegalTransition, StateDiffers, UnknownWorkflow
from omninode_bridge.core.message import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

WentOrNot = Outcome | IllegalTransition | StateDiffers | UnknownWorkflow


@dataclass(frozen=True, slots=True)
class LoggedTransition:
    """An entry of the `fsm-state-transitioned` log. `transition` is canonical JSON."""

    offset: int
    workflow_key: str
    version: int
    action_id: UUID
    correlation_id: UUID | None
    committed_at: datetime
    transition: bytes


class TransitionLog(Protocol):
    """The `fsm-state-transitioned` topic, as who looks at one key reads it."""

    async def history(
        self, workflow_key: str, after: int, limit: int
    ) -> Sequence[LoggedTransition]:
        """Return up to `limit` transitions of a key in offset order, from behind `after` on.

        `after` is the offset of the last one seen, 0 for the first page.
        """
        ...

    async def last(self, workflow_key: str, version: int) -> LoggedTransition | None:
        """Return the last transition of a key at `version` or before; None: there was none."""
        ...


class WorkflowStates(Protocol):
    """Workflows that are state machines, as the store effect's door moves them."""

    async def transition_state(
        self,
        workflow_id: str,
        from_state: str,
        to_state: str,
        trigger: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        action_id: UUID | None = None,
        epoch: int | None = None,
        lease_id: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> WentOrNot:
        """Go from one state to another, or say what would be allowed."""
        ...
