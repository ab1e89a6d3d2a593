"""What a commit has written to the topics that are history, as it stands in the log now.

It is made by the functions that make it for the store, so it is the same byte for byte; where the
log keeps bytes as they are (JSON, not JSONB), reading them back gives these (`tests/contract`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode_bridge.core.message import FSM_STATE_TRANSITIONED
from omninode_bridge.core.reducer import Absorbed
from omninode_bridge.infrastructure import wire
from omninode_bridge.ports import LoggedEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.core.commit import Accepted, Commit
    from omninode_bridge.core.reducer import Step


def logged_events(commit: Commit, accepted: Accepted) -> dict[str, Sequence[LoggedEvent] | None]:
    """Return the entries of each topic that has grown; None where only the log knows offsets."""
    committed: list[LoggedEvent] = []
    gave_up: list[LoggedEvent] = []
    found: dict[str, Sequence[LoggedEvent] | None] = {}
    for step in commit.steps:
        if isinstance(step, Absorbed):
            offset = accepted.state_committed_first + len(committed)
            body = wire.committed_text(step, commit)
            committed.append(_event(offset, step, step.snapshot.version, commit, body))
            if any(intent.intent_type == FSM_STATE_TRANSITIONED for intent in step.intents):
                found["fsm-state-transitioned"] = None
        else:
            offset = accepted.reducer_gave_up_first + len(gave_up)
            body = wire.gave_up_text(step, commit)
            gave_up.append(_event(offset, step, step.version, commit, body))
    if committed:
        found["state-committed"] = committed
    if gave_up:
        found["reducer-gave-up"] = gave_up
    return found


def _event(offset: int, step: Step, version: int, commit: Commit, body: str) -> LoggedEvent:
    action = step.action
    return LoggedEvent(
        offset, action.workflow_key, action.action_id, version, commit.committed_at, body.encode()
    )
