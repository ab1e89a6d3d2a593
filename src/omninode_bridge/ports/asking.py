"""How a loop or a door asks for something as any asker does: one action, or a whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from omninode_bridge.core.message import Outcome


class Submit(Protocol):
    """How a loop asks for an action of its own, as any asker does."""

    async def __call__(
        self,
        key: str,
        action_type: str,
        payload: Mapping[str, Any],
        /,
        *,
        action_id: UUID | None = None,
        epoch: int | None = None,
        lease_id: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> Outcome:
        """Return the action's outcome; raise OutcomeUnknown when there is none in time (R9)."""
        ...


class Runs(Protocol):
    """What carries out an orchestrator's contract, durably."""

    async def __call__(
        self,
        contract: Mapping[str, Any],
        input: Mapping[str, Any],  # noqa: A002 - the plan's word
        /,
        *,
        workflow_id: str,
        timeout: float,  # noqa: ASYNC109 - the outcome is unknown then, the run goes on
        epoch: int | None = None,
        lease_id: UUID | None = None,
    ) -> object:
        """Run to the end and return the outcome; wait at most `timeout` seconds for it."""
        ...
