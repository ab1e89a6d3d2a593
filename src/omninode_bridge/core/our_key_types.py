"""The key types that the bridge reduces itself, whatever the application."""

from typing import Final

from omninode_bridge.core.fsm_workflow import FSM_WORKFLOWS
from omninode_bridge.core.orchestration import RUN

OUR_KEY_TYPES: Final = {each.name: each for each in (FSM_WORKFLOWS, RUN)}
"""What they need is in their state, such as a run's contract, so whoever owns the partition can
carry them on. They move by their own tables only: nobody replaces such a state from outside."""

HOW_OURS_MOVE: Final = {
    FSM_WORKFLOWS.name: "a state machine is moved by fsm_transition",
    RUN.name: "a run goes on by replies, and is cancelled or taken over by the bridge",
}
"""What to do instead of replacing such a state, for messages; of each of them."""
