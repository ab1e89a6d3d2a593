"""What a contract makes of its keys: a reducer and a projection, both pure.

The state of a key is `{"status", "counts": {action type: n}, "first_at", "last_at"}`; times are the
earliest and the latest `occurred_at`, in UTC. The tag is the status.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from omninode_bridge import Illegal, Kept, Moved, Projection, Rejection, Transition

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from omninode_bridge import Action
    from omninode_bridge.ingest.contract import Contract


def reducer_of(contract: Contract) -> Callable[[dict[str, Any], Action], Transition | Rejection]:
    """Return the reducer of the contract's keys."""
    machine = contract.machine

    def reduce(state: dict[str, Any], action: Action) -> Transition | Rejection:
        before = state.get("status", machine.initial)
        match machine.next(before, action.type):
            case Moved(status) | Kept(status):
                pass
            case Illegal(allowed=allowed):
                can = ", ".join(allowed) or "nothing"
                return Rejection(f"{action.type!r} is not allowed in {before}, only {can}")
        counts = state.get("counts", {})
        counts[action.type] = counts.get(action.type, 0) + 1
        # In UTC, times of the years 1 to 9999 sort as their texts do.
        at = action.occurred_at.astimezone(UTC).isoformat()
        return Transition(
            {
                "status": status,
                "counts": counts,
                "first_at": min(at, state.get("first_at", at)),
                "last_at": max(at, state.get("last_at", at)),
            }
        )

    return reduce


def projection_of(
    contract: Contract,
) -> Callable[[str, dict[str, Any], str, datetime], Projection]:
    """Return the projection of the contract's keys."""
    namespace = contract.namespace

    def project(
        key: str,  # noqa: ARG001 - the signature every projection has
        state: dict[str, Any],
        action_type: str,  # noqa: ARG001
        committed_at: datetime,  # noqa: ARG001
    ) -> Projection:
        return Projection(tag=state["status"], namespace=namespace)

    return project
